// Run parts of a job on the threads the process already has, with subnormals flushed in each.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "simd.h"

#if !defined(_WIN32)
#include <dlfcn.h>
#include <unistd.h>
#endif

namespace kernels {

// Subnormals count as zero while this lives; the thread's own setting comes back afterwards.
class FlushSubnormals {
  public:
#if defined(__SSE2__)
    FlushSubnormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
    ~FlushSubnormals() { _mm_setcsr(saved_); }

  private:
    unsigned saved_;
#elif defined(__aarch64__)
    FlushSubnormals() {
        __asm__ __volatile__("mrs %0, fpcr" : "=r"(saved_));
        __asm__ __volatile__("msr fpcr, %0" ::"r"(saved_ | (std::uint64_t(1) << 24)));
    }
    ~FlushSubnormals() { __asm__ __volatile__("msr fpcr, %0" ::"r"(saved_)); }

  private:
    std::uint64_t saved_;
#else
    FlushSubnormals() {}  // not trivial, so that naming one is no unused variable
#endif
};

// The OpenMP team of torch, when its runtime is in the process: a second pool would fight the first
// one's spinning threads for the same cores. Null elsewhere, and in a fork, where the team's threads are
// gone and a call would wait for them for ever. First called when the module is loaded.
using TeamRunner = void (*)(void (*)(void*), void*, unsigned, unsigned);
inline TeamRunner team_runner() {
#if defined(_WIN32)
    return nullptr;
#else
    static const TeamRunner found =
        reinterpret_cast<TeamRunner>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    static const pid_t loaded_by = getpid();
    return getpid() == loaded_by ? found : nullptr;
#endif
}

// Whether another thread is worth waiting for. A team ends with its slowest thread: while other programs have
// the cores, the caller waits a time slice of the scheduler, milliseconds, for a thread that does not run; and
// in a virtual machine a thread may be woken on the caller's own core, to run when the caller is done.
// After such a wait the next jobs are done alone, twice as many each time, before the team is tried again.
class Trust {
  public:
    using Clock = std::chrono::steady_clock;

    bool withheld() { return alone_ > 0 && alone_-- > 0; }

    // The caller has done so many of the parts by itself by `ended`, and waits no longer now.
    void judge(Index parts, Index done, Clock::time_point began, Clock::time_point ended) {
        const Clock::duration saved = done ? (ended - began) * (parts - done) / done : ended - began;
        const bool in_vain = Clock::now() - ended > saved + std::chrono::microseconds(10);
        doubt_ = in_vain ? std::min<Index>(2 * doubt_ + 1, 255) : doubt_ / 2;
        alone_ = doubt_;
    }

  private:
    Index doubt_ = 0, alone_ = 0;
};

// Call body(part) for part = 0 .. parts - 1, each once, on the team; rethrows what it throws.
template <class Body>
void together(Index parts, const Body& body) {
    struct Job {
        const Body& body;
        const Index parts;
        std::atomic<Index> next{0};
        std::mutex mutex;
        std::exception_ptr failure;

        void work() {  // whoever comes takes the next part, so any number of threads will do
            FlushSubnormals flush;
            for (Index part; (part = next.fetch_add(1, std::memory_order_relaxed)) < parts;) {
                try {
                    body(part);
                } catch (...) {
                    std::lock_guard<std::mutex> lock(mutex);
                    failure = std::current_exception();
                }
            }
        }
    } job{body, parts, {0}, {}, {}};

    if (parts <= 1) {
        job.work();
    } else if (const TeamRunner run = team_runner()) {
        run([](void* data) { static_cast<Job*>(data)->work(); }, &job, unsigned(parts), 0);
    } else {
        std::vector<std::thread> helpers;
        try {
            for (Index i = 1; i < parts; ++i) helpers.emplace_back([&job] { job.work(); });
        } catch (const std::system_error&) {  // no more threads: those there are do the rest
        }
        job.work();
        for (std::thread& helper : helpers) helper.join();
    }
    if (job.failure) std::rethrow_exception(job.failure);
}

// As `together`, of parts that do not wait for each other: where that is faster, the caller does them all, by `alone`.
template <class Body, class Alone>
void parallel(Index parts, const Body& body, const Alone& alone) {
    static thread_local Trust trust;
    if (parts <= 1 || trust.withheld()) {
        FlushSubnormals flush;
        return alone();
    }
    const std::thread::id caller = std::this_thread::get_id();
    const auto began = Trust::Clock::now();
    auto ended = began;
    Index done = 0;
    together(parts, [&](Index part) {
        body(part);
        if (std::this_thread::get_id() != caller) return;
        ++done;
        ended = Trust::Clock::now();
    });
    trust.judge(parts, done, began, ended);
}
template <class Body>
void parallel(Index parts, const Body& body) {
    parallel(parts, body, [&] {
        for (Index part = 0; part < parts; ++part) body(part);
    });
}

// Which rows of a batch, and which units: one thread's share.
struct Share {
    Index first, rows, from, to;

    Share of_rows(Index other, Index count) const { return {other, count, from, to}; }
};

// Split n items for a job of `work` multiply-adds: one part per thread, or a single one if it is small.
inline Index parts_of(Index n, Index threads, double work) {
    if (work < 50e3) return 1;  // a few microseconds, what waking a thread costs
    return n < threads ? (n ? n : 1) : threads;
}

}  // namespace kernels
