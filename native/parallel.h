// Run parts of a job on the threads the process already has, with subnormals flushed in each.
#pragma once

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "simd.h"

#if !defined(_WIN32)
#include <dlfcn.h>
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
// one's spinning threads for the same cores. Null elsewhere.
using TeamRunner = void (*)(void (*)(void*), void*, unsigned, unsigned);
inline TeamRunner team_runner() {
#if defined(_WIN32)
    return nullptr;
#else
    static const TeamRunner found =
        reinterpret_cast<TeamRunner>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
#endif
}

// Call body(part) for part = 0 .. parts - 1, each once, on up to `parts` threads; rethrows what it throws.
template <class Body>
void parallel(Index parts, const Body& body) {
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

// Split n items for a job of `work` multiply-adds: one part per thread, or a single one if it is small.
inline Index parts_of(Index n, Index threads, double work) {
    if (work < 50e3) return 1;  // a few microseconds, what waking a thread costs
    return n < threads ? (n ? n : 1) : threads;
}

}  // namespace kernels
