// Memory of a thread's own, zeros at first, on a cache line's boundary: a vector that lies across
// two lines costs two loads.

#pragma once

#include <algorithm>
#include <cstdint>
#include <new>

namespace {

template <typename T>
class Buffer {
    static constexpr std::align_val_t kLine{64};

  public:
    explicit Buffer(int64_t count)
        : data_(static_cast<T*>(::operator new(count * sizeof(T), kLine))) {
        std::fill_n(data_, count, T{});
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { ::operator delete(data_, kLine); }

    T* data() { return data_; }
    T& operator[](int64_t i) { return data_[i]; }

  private:
    T* data_;
};

}  // namespace
