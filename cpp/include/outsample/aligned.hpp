// Vectors that begin with a cache line.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace outsample {

// Allocates whole cache lines.
template <class T>
struct CacheLines {
    using value_type = T;
    static constexpr std::align_val_t line{64};
    CacheLines() = default;
    template <class U>
    CacheLines(const CacheLines<U>&) {}
    T* allocate(std::size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), line)); }
    void deallocate(T* at, std::size_t) { ::operator delete(at, line); }
    friend bool operator==(CacheLines, CacheLines) { return true; }
    friend bool operator!=(CacheLines, CacheLines) { return false; }
};

// For tables that kernels read vector by vector.
template <class T>
using AlignedVector = std::vector<T, CacheLines<T>>;

}  // namespace outsample
