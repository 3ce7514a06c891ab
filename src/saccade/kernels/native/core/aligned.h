// Memory aligned to a cache line.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace saccade {

struct Release {
    void operator()(void* p) const { std::free(p); }
};

template <class T>
using Aligned = std::unique_ptr<T[], Release>;

template <class T>
Aligned<T> allocate(int64_t count) {
    const size_t bytes = (size_t(count > 0 ? count : 1) * sizeof(T) + 63) / 64 * 64;
    void* p = std::aligned_alloc(64, bytes);
    if (!p) throw std::bad_alloc();
    return Aligned<T>(static_cast<T*>(p));
}

}  // namespace saccade
