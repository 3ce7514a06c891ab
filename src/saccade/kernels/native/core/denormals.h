// Numbers below 1e-38 count as zero while this object lives: processors take a hundred times longer for them, and
// trained networks hold many (weights that decayed, sums that died out).
#pragma once
#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace saccade {

class NoDenormals {
public:
#if defined(__x86_64__)
    NoDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040u); }  // flush results, read inputs as zero
    ~NoDenormals() { _mm_setcsr(before_); }
#elif defined(__aarch64__)
    NoDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" ::"r"(before_ | (uint64_t(1) << 24)));
    }
    ~NoDenormals() { asm volatile("msr fpcr, %0" ::"r"(before_)); }
#else
    NoDenormals() = default;
#endif
    NoDenormals(const NoDenormals&) = delete;
    NoDenormals& operator=(const NoDenormals&) = delete;

private:
#if defined(__x86_64__)
    unsigned before_;
#else
    uint64_t before_ = 0;
#endif
};

}  // namespace saccade
