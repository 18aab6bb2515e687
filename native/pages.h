// Large pages for large new tensors.
//
// The system gives out fresh memory page by page, when it is first written. Of a tensor of tens of megabytes that takes
// longer than to compute what is written, where pages have 4 KiB; with pages of 2 MiB it takes a fraction.
#pragma once

#include <cstdint>

#include "simd.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace kernels {

// Asks for them behind `count` elements at `at`, which are about to be written. Only speed depends on the answer.
template <class T>
inline void expect_writes(T* at, Index count) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr std::uintptr_t page = std::uintptr_t(1) << 21;
    const std::uintptr_t begin = (std::uintptr_t(at) + page - 1) & ~(page - 1);
    const std::uintptr_t end = std::uintptr_t(at + count) & ~(page - 1);
    if (at && end > begin && end - begin >= 4 * page)
        madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)at, (void)count;
#endif
}

}  // namespace kernels
