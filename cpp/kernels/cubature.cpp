#include "outsample/cubature.hpp"

#include "simd.hpp"

namespace outsample::OUTSAMPLE_ISA {

namespace {

// Widest tile of nodes that share one load of a weight.
constexpr int tile_nodes = 4;
// Accumulators of a tile: half of the registers of the instruction set.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int tile_accumulators = 16;
#else
constexpr int tile_accumulators = 8;
#endif

// networks = true: a network per lane and one point at a time; false: a point per lane and one network.
template <bool networks>
OUTSAMPLE_INLINE vfloat weight_at(const float* w, int index) {
    if constexpr (networks)
        return load<vfloat>(w + index * lanes);
    else
        return broadcast(w[index]);
}
template <bool networks>
OUTSAMPLE_INLINE vfloat value_at(const float* v, int index) {
    if constexpr (networks)
        return broadcast(v[index]);
    else
        return load<vfloat>(v + static_cast<std::int64_t>(index) * lanes);
}
template <bool networks>
OUTSAMPLE_INLINE vint integer_at(const int* v, int index) {
    if constexpr (networks)
        return v[index] - vint{};
    else
        return load<vint>(v + static_cast<std::int64_t>(index) * lanes);
}

OUTSAMPLE_INLINE vfloat select(vint mask, vfloat a, vfloat b) { return mask ? a : b; }

// out[p][r] = sum over j of w(r * row_stride + j * column_stride) h[p][j] for R rows and P nodes.
template <bool networks, int R, int P>
OUTSAMPLE_INLINE void tile_rows(const float* w, int row_stride, int column_stride, int columns, const float* h,
                                int h_stride, float* out, int out_stride) {
    vfloat sum[R][P];
    for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) sum[r][p] = vfloat{};
    for (int j = 0; j < columns; ++j) {
        vfloat hj[P];
        for (int p = 0; p < P; ++p) hj[p] = load<vfloat>(h + (p * h_stride + j) * lanes);
        for (int r = 0; r < R; ++r) {
            const vfloat wj = weight_at<networks>(w, r * row_stride + j * column_stride);
            for (int p = 0; p < P; ++p) sum[r][p] += wj * hj[p];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) store(out + (p * out_stride + r) * lanes, sum[r][p]);
}

template <bool networks, int P>
OUTSAMPLE_INLINE void product_of(const float* w, int rows, int row_stride, int column_stride, int columns,
                                 const float* h, int h_stride, float* out, int out_stride) {
    constexpr int R = tile_accumulators / P;
    const int unit = networks ? lanes : 1;
    int r = 0;
    for (; r + R <= rows; r += R)
        tile_rows<networks, R, P>(w + r * row_stride * unit, row_stride, column_stride, columns, h, h_stride,
                                  out + r * lanes, out_stride);
    for (; r + 2 <= rows; r += 2)
        tile_rows<networks, 2, P>(w + r * row_stride * unit, row_stride, column_stride, columns, h, h_stride,
                                  out + r * lanes, out_stride);
    for (; r < rows; ++r)
        tile_rows<networks, 1, P>(w + r * row_stride * unit, row_stride, column_stride, columns, h, h_stride,
                                  out + r * lanes, out_stride);
}

template <bool networks>
OUTSAMPLE_INLINE void product(int nodes, const float* w, int rows, int row_stride, int column_stride, int columns,
                              const float* h, int h_stride, float* out, int out_stride) {
    if (nodes == 4)
        product_of<networks, 4>(w, rows, row_stride, column_stride, columns, h, h_stride, out, out_stride);
    else if (nodes == 3)
        product_of<networks, 3>(w, rows, row_stride, column_stride, columns, h, h_stride, out, out_stride);
    else if (nodes == 2)
        product_of<networks, 2>(w, rows, row_stride, column_stride, columns, h, h_stride, out, out_stride);
    else
        product_of<networks, 1>(w, rows, row_stride, column_stride, columns, h, h_stride, out, out_stride);
}

// Walks the chunk; `leaf(index, logits)` is called for each of its leaves with outputs vectors. With `states`, the
// states of all nodes of the chunk are kept there, level after level; otherwise it is room for one tile.
template <bool networks, bool keep, class Leaf>
OUTSAMPLE_INLINE void walk(const ForestView& forest, int chunk, const float* w, float* products, float* states,
                           float* logits, Leaf leaf) {
    const int d = forest.hidden_size, n = forest.seq_len, outputs = forest.outputs;
    const int unit = networks ? lanes : 1;
    const float* W_hi = w + d * d * unit;
    const float* W_oh = W_hi + d * unit;
    const int* begin = forest.chunk_begin + chunk * n;
    const int* end = begin + n;
    float* above = products;
    float* below = products + static_cast<std::int64_t>(forest.max_chunk_level) * d * lanes;
    for (int t = 0; t < n; ++t) {
        const int first_node = forest.level_begin[t] + begin[t];
        const int count = end[t] - begin[t];
        for (int i = 0; i < count; i += tile_nodes) {
            const int filled = count - i < tile_nodes ? count - i : tile_nodes;
            for (int p = 0; p < filled; ++p) {
                const int node = first_node + i + p;
                const vfloat x = value_at<networks>(forest.x, node);
                float* h = states + p * d * lanes;
                if (t == 0) {
                    for (int j = 0; j < d; ++j) store(h + j * lanes, relu(weight_at<networks>(W_hi, j) * x));
                } else {
                    const float* z = above + (forest.parent[node] - begin[t - 1]) * d * lanes;
                    for (int j = 0; j < d; ++j)
                        store(h + j * lanes, relu(load<vfloat>(z + j * lanes) + weight_at<networks>(W_hi, j) * x));
                }
            }
            if (t + 1 < n) {
                product<networks>(filled, w, d, d, 1, d, states, d, below + i * d * lanes, d);
            } else {
                product<networks>(filled, W_oh, outputs, d, 1, d, states, d, logits, outputs);
                for (int p = 0; p < filled; ++p) leaf(begin[t] + i + p, logits + p * outputs * lanes);
            }
            if (keep) states += filled * d * lanes;
        }
        float* swap = above;
        above = below;
        below = swap;
    }
}

// Target's logit minus the best other one; of one output, the output.
template <bool networks>
OUTSAMPLE_INLINE vfloat margin_of(const ForestView& forest, int leaf, const float* logits) {
    if (forest.outputs == 1) return load<vfloat>(logits);
    const vint target = integer_at<networks>(forest.target, leaf);
    vfloat own = broadcast(-3.0e38f), best = own;
    for (int o = 0; o < forest.outputs; ++o) {
        const vfloat value = load<vfloat>(logits + o * lanes);
        const vint is_target = target == o;
        own = select(is_target, value, own);
        best = select(is_target, best, max(best, value));
    }
    return own - best;
}

// To an absolute error of about 2e-7, which is what the readout needs.
OUTSAMPLE_INLINE vfloat tanh_of(vfloat a) {
    // exp(2a) = 2^k 2^f; beyond 2^26 the result is +-1 in float32.
    vfloat t = min(max(a * broadcast(2.8853900817779268f), broadcast(-26.0f)), broadcast(26.0f));
    const vfloat shift = broadcast(12582912.0f);  // adding it rounds to an integer
    const vfloat shifted = t + shift;
    const vfloat f = t - (shifted - shift);
    vfloat e = broadcast(1.5403530e-4f);
    e = e * f + broadcast(1.3333558e-3f);
    e = e * f + broadcast(9.6181291e-3f);
    e = e * f + broadcast(5.5504109e-2f);
    e = e * f + broadcast(2.4022651e-1f);
    e = e * f + broadcast(6.9314718e-1f);
    e = e * f + broadcast(1.0f);
    vint bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    vint exponent = bits << 23;  // the low bits of `shifted` are k
    vint ebits;
    std::memcpy(&ebits, &e, sizeof ebits);
    ebits += exponent;
    std::memcpy(&e, &ebits, sizeof e);
    return broadcast(1.0f) - broadcast(2.0f) / (e + broadcast(1.0f));
}

OUTSAMPLE_INLINE vfloat triple_angle(vfloat u) {
    const vfloat square = u * u;
    return u * (square + broadcast(3.0f)) / (broadcast(3.0f) * square + broadcast(1.0f));
}

OUTSAMPLE_INLINE vfloat gelu_of(vfloat a) {
    return broadcast(0.5f) * a * (broadcast(1.0f) + tanh_of(broadcast(0.851f) * a));
}

// Adds a vector to `lanes` doubles.
OUTSAMPLE_INLINE void add_to(double* sums, vfloat v) {
    for (int lane = 0; lane < lanes; ++lane) sums[lane] += static_cast<double>(v[lane]);
}

// Margins, features and readout of all leaves. sums: (1 + units) vectors of doubles, in float32 within a chunk.
template <bool networks>
OUTSAMPLE_INLINE void read_out(const ForestView& forest, const ReadoutView& readout, const float* w, float* scratch,
                               double* sums) {
    const int d = forest.hidden_size, units = readout.units;
    float* part = scratch;
    float* logits = part + (1 + units) * lanes;
    float* states = logits + tile_nodes * forest.outputs * lanes;
    float* products = states + tile_nodes * d * lanes;
    for (int i = 0; i < (1 + units) * lanes; ++i) sums[i] = 0;
    for (int chunk = 0; chunk < forest.chunks; ++chunk) {
        vfloat value = vfloat{};
        for (int i = 0; i < units * lanes; ++i) part[i] = 0;
        walk<networks, false>(forest, chunk, w, products, states, logits, [&](int leaf, const float* leaf_logits) {
            const vfloat margin = margin_of<networks>(forest, leaf, leaf_logits);
            const vfloat scale = value_at<networks>(readout.inverse_scale, leaf);
            vfloat feature[cubature_temperatures];
            if (readout.shift) {
                feature[0] = (margin - value_at<networks>(readout.shift, leaf)) * scale;
                feature[1] = feature[0] * feature[0];
                feature[2] = tanh_of(feature[0]);
            } else {
                feature[0] = tanh_of(broadcast(0.5f) * margin * scale);
                feature[1] = triple_angle(feature[0]);
                feature[2] = triple_angle(feature[1]);
            }
            for (int k = 0; k < cubature_temperatures; ++k) {
                const int row = leaf * cubature_temperatures + k;
                value += value_at<networks>(readout.linear, row) * feature[k];
            }
            const int row = leaf * cubature_temperatures * units;
            for (int u = 0; u < units; ++u) {
                vfloat sum = load<vfloat>(part + u * lanes);
                for (int k = 0; k < cubature_temperatures; ++k)
                    sum += value_at<networks>(readout.hidden, row + k * units + u) * feature[k];
                store(part + u * lanes, sum);
            }
        });
        add_to(sums, value);
        for (int u = 0; u < units; ++u) add_to(sums + (1 + u) * lanes, load<vfloat>(part + u * lanes));
    }
}

}  // namespace

int cubature_lanes() { return lanes; }

void cubature_pack(const float* const* weights, int count, int size, float* packed) {
    // Lanes without a network repeat the last one.
    const float* row[lanes];
    for (int lane = 0; lane < lanes; ++lane) row[lane] = weights[lane < count ? lane : count - 1];
    for (int i = 0; i < size; ++i)
        for (int lane = 0; lane < lanes; ++lane) packed[i * lanes + lane] = row[lane][i];
}

void cubature_margins(const ForestView& forest, const float* packed, float* scratch, float* margins,
                      std::int64_t stride, int filled, bool logits) {
    const int d = forest.hidden_size, outputs = forest.outputs;
    float* room = scratch;
    float* states = room + tile_nodes * outputs * lanes;
    float* products = states + tile_nodes * d * lanes;
    auto put = [&](float* to, vfloat v) {
        if (filled == lanes)
            store(to, v);
        else
            for (int lane = 0; lane < filled; ++lane) to[lane] = v[lane];
    };
    for (int chunk = 0; chunk < forest.chunks; ++chunk)
        walk<true, false>(forest, chunk, packed, products, states, room, [&](int leaf, const float* leaf_logits) {
            if (logits)
                for (int o = 0; o < outputs; ++o)
                    put(margins + (static_cast<std::int64_t>(leaf) * outputs + o) * stride,
                        load<vfloat>(leaf_logits + o * lanes));
            else
                put(margins + leaf * stride, margin_of<true>(forest, leaf, leaf_logits));
        });
}

void cubature_tangents(const ForestView& forest, const float* packed, float* scratch, const float* coefficients,
                       float* tangents, std::int64_t stride, int filled) {
    const int d = forest.hidden_size, n = forest.seq_len, outputs = forest.outputs;
    const float* W_hi = packed + d * d * lanes;
    const float* W_oh = W_hi + d * lanes;
    const std::int64_t level_room = static_cast<std::int64_t>(forest.max_chunk_level) * d * lanes;
    float* room = scratch;
    float* products = room + tile_nodes * outputs * lanes;
    float* adjoints = products + 2 * level_room;  // with respect to pre-activations, summed over children
    float* tile = adjoints + 2 * level_room;
    float* states = tile + tile_nodes * d * lanes;
    for (int chunk = 0; chunk < forest.chunks; ++chunk) {
        const int* begin = forest.chunk_begin + chunk * n;
        const int* end = begin + n;
        float* own = adjoints;
        float* above = adjoints + level_room;
        // Leaves: the derivative of coefficient * margin with respect to the last state.
        walk<true, true>(forest, chunk, packed, products, states, room, [&](int leaf, const float* logits) {
            float* to = own + (leaf - begin[n - 1]) * d * lanes;
            float held[lanes];
            for (int lane = 0; lane < lanes; ++lane)
                held[lane] = lane < filled ? coefficients[leaf * stride + lane] : 0.0f;
            const vfloat coefficient = load<vfloat>(held);
            if (outputs == 1) {
                for (int j = 0; j < d; ++j) store(to + j * lanes, coefficient * load<vfloat>(W_oh + j * lanes));
                return;
            }
            const int target = forest.target[leaf];
            vfloat best = broadcast(-3.0e38f);
            vint rival = vint{};
            for (int o = 0; o < outputs; ++o) {
                if (o == target) continue;
                const vfloat value = load<vfloat>(logits + o * lanes);
                const vint better = value > best;
                best = select(better, value, best);
                rival = better ? o - vint{} : rival;
            }
            // The state is passed over once: per state, all rivals' columns.
            for (int j = 0; j < d; ++j)
                store(to + j * lanes, coefficient * load<vfloat>(W_oh + (target * d + j) * lanes));
            constexpr int together = 8;
            for (int first = 0; first < outputs; first += together) {
                const int count = outputs - first < together ? outputs - first : together;
                vfloat share[together];
                for (int k = 0; k < together; ++k)
                    share[k] =
                        k < count && first + k != target ? select(rival == first + k, coefficient, vfloat{}) : vfloat{};
                for (int j = 0; j < d; ++j) {
                    vfloat sum = load<vfloat>(to + j * lanes);
                    for (int k = 0; k < count; ++k)
                        sum -= share[k] * load<vfloat>(W_oh + ((first + k) * d + j) * lanes);
                    store(to + j * lanes, sum);
                }
            }
        });
        const float* level_states = states;
        for (int t = 0; t < n; ++t) level_states += static_cast<std::int64_t>(end[t] - begin[t]) * d * lanes;
        for (int t = n - 1; t >= 0; --t) {
            const int count = end[t] - begin[t];
            const int first_node = forest.level_begin[t] + begin[t];
            level_states -= static_cast<std::int64_t>(count) * d * lanes;
            if (t > 0)
                for (int i = 0; i < (end[t - 1] - begin[t - 1]) * d * lanes; ++i) above[i] = 0;
            for (int i = 0; i < count; i += tile_nodes) {
                const int nodes = count - i < tile_nodes ? count - i : tile_nodes;
                // own: at the last level with respect to the state, else to the products W_hh h of the children.
                const float* g = own + static_cast<std::int64_t>(i) * d * lanes;
                if (t < n - 1) {
                    product<true>(nodes, packed, d, 1, d, d, g, d, tile, d);
                    g = tile;
                }
                for (int p = 0; p < nodes; ++p) {
                    const int node = first_node + i + p;
                    const float* h = level_states + static_cast<std::int64_t>(i + p) * d * lanes;
                    float* to = t > 0
                                    ? above + static_cast<std::int64_t>(forest.parent[node] - begin[t - 1]) * d * lanes
                                    : nullptr;
                    vfloat tangent = vfloat{};
                    for (int j = 0; j < d; ++j) {
                        const vfloat active = load<vfloat>(h + j * lanes);
                        const vfloat gz = select(active > vfloat{}, load<vfloat>(g + (p * d + j) * lanes), vfloat{});
                        tangent += gz * load<vfloat>(W_hi + j * lanes);
                        if (to) store(to + j * lanes, load<vfloat>(to + j * lanes) + gz);
                    }
                    float* out = tangents + node * stride;
                    for (int lane = 0; lane < filled; ++lane) out[lane] = tangent[lane];
                }
            }
            float* swap = own;
            own = above;
            above = swap;
        }
    }
}

void cubature_readout_one(const ForestView& forest, const ReadoutView& readout, const float* weights, float* scratch,
                          double* result) {
    const int units = readout.units;
    double* sums = result + 1;
    read_out<false>(forest, readout, weights, scratch, sums);
    double value = 0;
    for (int lane = 0; lane < lanes; ++lane) value += sums[lane];
    // Units side by side in lanes; bias and out are padded with zeros.
    for (int u = 0; u < units; u += lanes) {
        float activation[lanes];
        for (int k = 0; k < lanes; ++k) {
            double sum = 0;
            if (u + k < units)
                for (int lane = 0; lane < lanes; ++lane) sum += sums[(1 + u + k) * lanes + lane];
            activation[k] = static_cast<float>(sum);
        }
        const vfloat gelu = gelu_of(load<vfloat>(activation) + load<vfloat>(readout.bias + u));
        const vfloat share = gelu * load<vfloat>(readout.out + u);
        for (int k = 0; k < lanes; ++k) value += static_cast<double>(share[k]);
    }
    result[0] = value;
}

void cubature_readout_many(const ForestView& forest, const ReadoutView& readout, const float* packed, float* scratch,
                           double* result) {
    read_out<true>(forest, readout, packed, scratch, result);
    for (int u = 0; u < readout.units; ++u) {
        float activation[lanes];
        for (int lane = 0; lane < lanes; ++lane) activation[lane] = static_cast<float>(result[(1 + u) * lanes + lane]);
        const vfloat gelu = gelu_of(load<vfloat>(activation) + broadcast(readout.bias[u]));
        add_to(result, gelu * broadcast(readout.out[u]));
    }
}

std::int64_t cubature_count(const ForestView& forest, const float* weights, float* scratch) {
    const int d = forest.hidden_size, outputs = forest.outputs;
    float* logits = scratch;
    float* states = logits + tile_nodes * outputs * lanes;
    float* products = states + tile_nodes * d * lanes;
    vint correct = vint{};
    for (int chunk = 0; chunk < forest.chunks; ++chunk)
        walk<false, false>(forest, chunk, weights, products, states, logits, [&](int leaf, const float* leaf_logits) {
            // The lowest index wins a tie: strictly above those before the target, at least as high as those behind.
            const vint target = integer_at<false>(forest.target, leaf);
            vfloat own = broadcast(-3.0e38f), before = own, behind = own;
            for (int o = 0; o < outputs; ++o) {
                const vfloat value = load<vfloat>(leaf_logits + o * lanes);
                own = select(target == o, value, own);
                before = select(target > o, max(before, value), before);
                behind = select(target < o, max(behind, value), behind);
            }
            correct -= (own > before) & (own >= behind) & (target >= vint{});
        });
    std::int64_t total = 0;
    for (int lane = 0; lane < lanes; ++lane) total += correct[lane];
    return total;
}

}  // namespace outsample::OUTSAMPLE_ISA
