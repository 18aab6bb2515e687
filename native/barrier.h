// A few threads that meet many times a millisecond: spinning, and giving way when it takes long.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include "simd.h"

namespace kernels {

inline void pause() {
#if defined(__SSE2__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

// Whoever enters before the team is complete, or has waited too long for the rest, is in it: fewer threads
// than were asked for, or one after the other, do the same work.
class Team {
  public:
    explicit Team(Index wanted) : wanted_(std::uint32_t(wanted)) {}

    // This thread's number, or -1 if the others have begun without it.
    Index enter() {
        const std::uint32_t number = entered_.fetch_add(1);
        if (number & begun) return -1;
        if (number == 0) {
            const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(2);
            wait([&] {
                return entered_.load() == wanted_ || std::chrono::steady_clock::now() > deadline;
            });
            size_ = Index(entered_.fetch_or(begun));
            ready_.store(true, std::memory_order_release);
        } else {
            wait([&] { return ready_.load(std::memory_order_acquire); });
        }
        return Index(number);
    }

    Index size() const { return size_; }

    // Return when all have called; `round` is the caller's own count of its calls.
    void meet(std::uint64_t& round) {
        const std::uint64_t all = ++round * std::uint64_t(size_);
        if (met_.fetch_add(1, std::memory_order_acq_rel) + 1 == all) return;
        wait([&] { return met_.load(std::memory_order_acquire) >= all; });
    }

  private:
    static constexpr std::uint32_t begun = 1u << 31;

    template <class Condition>
    static void wait(const Condition& met) {
        for (Index spins = 0; !met(); ++spins)
            if (spins < 500)  // some ten microseconds
                pause();
            else
                std::this_thread::yield();
    }

    const std::uint32_t wanted_;
    Index size_ = 0;
    std::atomic<std::uint32_t> entered_{0};
    std::atomic<bool> ready_{false};
    alignas(64) std::atomic<std::uint64_t> met_{0};
};

}  // namespace kernels
