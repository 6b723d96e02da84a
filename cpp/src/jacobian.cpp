#include "outsample/jacobian.hpp"

#include <algorithm>
#include <cstring>

#include "scratch.hpp"

namespace outsample {

namespace {

// Bytes of networks that are read twice, the second time from the second-level cache.
constexpr std::int64_t panel_bytes = std::int64_t(1) << 20;
constexpr int half = jacobian_chunk / 2;

int chunks_of(int columns) { return (columns + jacobian_chunk - 1) / jacobian_chunk; }

// To the nearest, ties to even.
std::uint32_t bfloat16(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

// Columns of all networks, one after the other in `from`, to words of each network.
void pack(const float* from, int columns, int networks, std::uint32_t* to, std::int64_t stride) {
    constexpr int tile = 16;
    for (int c = 0; c < chunks_of(columns); ++c)
        for (int n = 0; n < networks; n += tile) {
            const int count = std::min(tile, networks - n);
            for (int i = 0; i < half; ++i) {
                const int low = c * jacobian_chunk + i, high = low + half;
                const float* a = low < columns ? from + std::int64_t(low) * networks + n : nullptr;
                const float* b = high < columns ? from + std::int64_t(high) * networks + n : nullptr;
                std::uint32_t* word = to + n * stride + c * half + i;
                for (int m = 0; m < count; ++m, word += stride)
                    *word = (a ? bfloat16(a[m]) : 0u) | (b ? bfloat16(b[m]) << 16 : 0u);
            }
        }
}

}  // namespace

Jacobian::Jacobian(int networks, int features, int inputs, int units, const float* phi, const float* tangent,
                   const float* g, const float* slope, const float* root)
    : networks_(networks), features_(features), inputs_(inputs), units_(units) {
    const int padded = (networks + jacobian_networks - 1) / jacobian_networks * jacobian_networks;
    stride_ = std::int64_t(chunks_of(features) + chunks_of(inputs)) * half;
    stride_ += stride_ / half % 2 ? 0 : half;  // an odd number of cache lines, so that networks do not share cache sets
    words_.assign(padded * stride_, 0);
    pack(phi, features, networks, words_.data(), stride_);
    pack(tangent, inputs, networks, words_.data() + std::int64_t(chunks_of(features)) * half, stride_);
    g_.assign(std::int64_t(padded) * units, 0.f);
    slope_.assign(std::int64_t(padded) * units, 0.f);
    for (int m = 0; m < networks; ++m)
        for (int u = 0; u < units; ++u) {
            g_[m * units + u] = g[std::int64_t(u) * networks + m];
            slope_[m * units + u] = slope[std::int64_t(u) * networks + m];
        }
    root_.assign(padded, 0.f);
    std::copy(root, root + networks, root_.begin());
}

void Jacobian::transposed(const float* v, float* result) const { product(nullptr, v, result); }

void Jacobian::normal(const float* v, float* result) const { product(v, nullptr, result); }

void Jacobian::product(const float* along, const float* v, float* result) const {
    const JacobianView view{units_,    chunks_of(features_), chunks_of(inputs_), stride_, words_.data(),
                            g_.data(), slope_.data(),        root_.data()};
    const std::int64_t length = std::int64_t(view.feature_chunks) * jacobian_chunk;
    const std::int64_t inputs = std::int64_t(view.input_chunks) * jacobian_chunk;
    const std::int64_t size = (1 + units_) * length + inputs + 2 * units_;
    const int padded = static_cast<int>(root_.size());
    int panel = static_cast<int>(std::clamp<std::int64_t>(panel_bytes / 4 / stride_, jacobian_networks, 256));
    panel = panel / jacobian_networks * jacobian_networks;

    thread_local Scratch space;
    const std::int64_t scratch_size = std::int64_t(panel) * (2 + units_);
    float* at = space.floats(2 * size + scratch_size + padded);
    std::fill(at, at + 2 * size, 0.f);
    const auto vector = [&](float* start) {
        float* end = start + (1 + units_) * length + inputs;
        return JacobianVector{0.f, end, end + units_, start, start + (1 + units_) * length};
    };
    JacobianVector in = vector(at), out = vector(at + size);
    float* scratch = at + 2 * size;
    float* padded_v = scratch + scratch_size;
    if (along) {
        const float* from = along;
        in.intercept = *from++;
        const auto take = [&](float* to, int count) {
            std::copy(from, from + count, to);
            from += count;
        };
        take(in.features, features_);
        take(in.out, units_);
        take(in.bias, units_);
        for (int u = 0; u < units_; ++u) take(in.features + (1 + u) * length, features_);
        take(in.inputs, inputs_);
    } else {
        std::fill(std::copy(v, v + networks_, padded_v), padded_v + padded, 0.f);
    }
    for (int first = 0; first < padded; first += panel)
        OUTSAMPLE_KERNEL(jacobian_product)(view, first, std::min(panel, padded - first), along ? &in : nullptr,
                                           padded_v, scratch, out);
    float* to = result;
    *to++ = out.intercept;
    const auto give = [&](const float* from, int count) { to = std::copy(from, from + count, to); };
    give(out.features, features_);
    give(out.out, units_);
    give(out.bias, units_);
    for (int u = 0; u < units_; ++u) give(out.features + (1 + u) * length, features_);
    give(out.inputs, inputs_);
}

}  // namespace outsample
