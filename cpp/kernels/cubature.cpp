#include "outsample/cubature.hpp"

#include "point_features.hpp"

namespace outsample::OUTSAMPLE_ISA {

namespace {

// Networks in lanes ----------------------------------------------------------------------------------------------

// Widest tile of nodes that share one load of a weight.
constexpr int tile_nodes = 4;
// Accumulators of a tile: half of the registers of the instruction set.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int tile_accumulators = 16;
#else
constexpr int tile_accumulators = 8;
#endif

// out[p][r] = sum over j of w(r * row_stride + j * column_stride) h[p][j] for R rows and P nodes.
template <int R, int P>
OUTSAMPLE_INLINE void tile_rows(const float* w, int row_stride, int column_stride, int columns, const float* h,
                                int h_stride, float* out, int out_stride) {
    vfloat sum[R][P];
    for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) sum[r][p] = vfloat{};
    for (int j = 0; j < columns; ++j) {
        vfloat hj[P];
        for (int p = 0; p < P; ++p) hj[p] = load<vfloat>(h + (p * h_stride + j) * lanes);
        for (int r = 0; r < R; ++r) {
            const vfloat wj = load<vfloat>(w + (r * row_stride + j * column_stride) * lanes);
            for (int p = 0; p < P; ++p) sum[r][p] += wj * hj[p];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) store(out + (p * out_stride + r) * lanes, sum[r][p]);
}

// As many rows at once as there are accumulators for, then the rest in halves.
template <int R, int P>
OUTSAMPLE_INLINE void product_of(int rows, const float* w, int row_stride, int column_stride, int columns,
                                 const float* h, int h_stride, float* out, int out_stride) {
    for (; rows >= R; rows -= R, w += R * row_stride * lanes, out += R * lanes)
        tile_rows<R, P>(w, row_stride, column_stride, columns, h, h_stride, out, out_stride);
    if constexpr (R > 1)
        product_of<R / 2, P>(rows, w, row_stride, column_stride, columns, h, h_stride, out, out_stride);
}

OUTSAMPLE_INLINE void product(int nodes, const float* w, int rows, int row_stride, int column_stride, int columns,
                              const float* h, int h_stride, float* out, int out_stride) {
    constexpr int R = tile_accumulators;
    if (nodes == 4)
        product_of<R / 4, 4>(rows, w, row_stride, column_stride, columns, h, h_stride, out, out_stride);
    else if (nodes == 3)
        product_of<R / 4, 3>(rows, w, row_stride, column_stride, columns, h, h_stride, out, out_stride);
    else if (nodes == 2)
        product_of<R / 2, 2>(rows, w, row_stride, column_stride, columns, h, h_stride, out, out_stride);
    else
        product_of<R, 1>(rows, w, row_stride, column_stride, columns, h, h_stride, out, out_stride);
}

// Walks the chunk; `leaves(first, count, logits)` is called for each tile of its leaves, with outputs vectors for each.
// With `keep`, the states of all nodes of the chunk are kept in `states`, level after level; otherwise it is room for
// one tile. products: two levels of a chunk.
template <bool keep, class Leaves>
OUTSAMPLE_INLINE void walk_networks(const ForestView& forest, int chunk, const float* w, float* products, float* states,
                                    float* logits, Leaves leaves) {
    const int d = forest.hidden_size, n = forest.seq_len, outputs = forest.outputs;
    const float* W_hi = w + d * d * lanes;
    const float* W_oh = W_hi + d * lanes;
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
                const vfloat x = broadcast(forest.x[node]);
                float* h = states + p * d * lanes;
                if (t == 0) {
                    for (int j = 0; j < d; ++j) store(h + j * lanes, relu(load<vfloat>(W_hi + j * lanes) * x));
                } else {
                    const float* z = above + (forest.parent[node] - begin[t - 1]) * d * lanes;
                    for (int j = 0; j < d; ++j)
                        store(h + j * lanes, relu(load<vfloat>(z + j * lanes) + load<vfloat>(W_hi + j * lanes) * x));
                }
            }
            if (t + 1 < n) {
                product(filled, w, d, d, 1, d, states, d, below + i * d * lanes, d);
            } else {
                product(filled, W_oh, outputs, d, 1, d, states, d, logits, outputs);
                leaves(begin[t] + i, filled, logits);
            }
            if (keep) states += filled * d * lanes;
        }
        float* swap = above;
        above = below;
        below = swap;
    }
}

// Points in lanes ------------------------------------------------------------------------------------------------

// Lane l of the result is entry source[l] of two neighbouring vectors, `stride` floats apart.
OUTSAMPLE_INLINE vfloat from_two(const float* v, std::int64_t stride, vint source) {
#if defined(__AVX512F__)
    return (vfloat)_mm512_permutex2var_ps(_mm512_loadu_ps(v), (__m512i)source, _mm512_loadu_ps(v + stride));
#elif defined(__AVX2__)
    const __m256i index = (__m256i)source;
    const __m256 first = _mm256_permutevar8x32_ps(_mm256_loadu_ps(v), index);
    const __m256 second = _mm256_permutevar8x32_ps(_mm256_loadu_ps(v + stride), index);
    return (vfloat)_mm256_blendv_ps(first, second, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
#else
    vfloat result;
    for (int lane = 0; lane < lanes; ++lane)
        result[lane] = source[lane] < lanes ? v[source[lane]] : v[stride + source[lane] - lanes];
    return result;
#endif
}

// States of P neighbouring nodes, made from the products above them where they are used, so that they need not be
// stored.
enum class Above { none, same_lanes, other_lanes };
template <Above above, int P>
struct States {
    const float* W_hi;
    vfloat x[P];
    const float* z[P];
    vint source[P];
    std::int64_t group;

    __attribute__((always_inline)) vfloat get(int p, int j) const {
        const vfloat own = broadcast(W_hi[j]) * x[p];
        if constexpr (above == Above::none) return relu(own);
        if constexpr (above == Above::same_lanes) return relu(load<vfloat>(z[p] + j * lanes) + own);
        return relu(from_two(z[p] + j * lanes, group, source[p]) + own);
    }
};

// out[p][r] = sum over j of w[r][j] h[p](j), R rows at once, then as many of the rest as there are, by smaller numbers.
template <int R, int P, class S>
OUTSAMPLE_INLINE void rows_of(int rows, const float* w, int d, const S& h, float* out, std::int64_t stride) {
    for (; rows >= R; rows -= R, w += R * d, out += R * lanes) {
        vfloat sum[P][R];
        for (int p = 0; p < P; ++p)
            for (int r = 0; r < R; ++r) sum[p][r] = vfloat{};
        for (int j = 0; j < d; ++j) {
            vfloat hj[P];
            for (int p = 0; p < P; ++p) hj[p] = h.get(p, j);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) {
                const vfloat wj = broadcast(w[r * d + j]);
                for (int p = 0; p < P; ++p) sum[p][r] += wj * hj[p];
            }
        }
        for (int p = 0; p < P; ++p)
            for (int r = 0; r < R; ++r) store(out + p * stride + r * lanes, sum[p][r]);
    }
    if constexpr (R > 1) rows_of<R * 5 / 8, P>(rows, w, d, h, out, stride);
}
// Rows that fit into the registers: of one node, of each of two.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int rows_of_one = 16, rows_of_two = 10;
#else
constexpr int rows_of_one = 10, rows_of_two = 5;
#endif

// One level of nodes: products with `rows` rows of w, `count` nodes from `node` on, `stride` floats apart in `out`.
template <Above above, int P>
OUTSAMPLE_INLINE void advance(const ForestView& forest, int d, std::int64_t node, int first_above, const float* W_hi,
                              const float* products, int rows, const float* w, float* out, std::int64_t stride) {
    States<above, P> states{};
    states.W_hi = W_hi;
    states.group = static_cast<std::int64_t>(d) * lanes;
    for (int p = 0; p < P; ++p) {
        states.x[p] = load<vfloat>(forest.x + (node + p) * lanes);
        if constexpr (above != Above::none)
            states.z[p] = products + (forest.parent[node + p] - first_above) * states.group;
        if constexpr (above == Above::other_lanes) states.source[p] = load<vint>(forest.source + (node + p) * lanes);
    }
    rows_of<P == 1 ? rows_of_one : rows_of_two, P>(rows, w, d, states, out, stride);
}

// Walks the chunk; `leaf(index, logits)` is called for each lane group of its leaves. products: two levels of a chunk,
// of max_chunk_level + 1 groups each; logits: two groups. D: hidden_size, or 0.
template <int D, class Leaf>
OUTSAMPLE_INLINE void walk_points(const ForestView& forest, int chunk, const float* w, float* products, float* logits,
                                  Leaf leaf) {
    const int d = D ? D : forest.hidden_size, n = forest.seq_len;
    const float* W_hi = w + d * d;
    const float* W_oh = W_hi + d;
    const int* begin = forest.chunk_begin + chunk * n;
    const int* end = begin + n;
    float* above = products;
    float* below = products + static_cast<std::int64_t>(forest.max_chunk_level + 1) * d * lanes;
    for (int t = 0; t < n; ++t) {
        const bool last = t + 1 == n;
        const float* next = last ? W_oh : w;
        const int rows = last ? forest.outputs : d;
        const std::int64_t stride = static_cast<std::int64_t>(rows) * lanes;
        const auto stays = [&](std::int64_t node) { return forest.source[node * lanes] == lanes_stay; };
        for (int i = begin[t]; i < end[t];) {
            const std::int64_t node = forest.level_begin[t] + i;
            const int first_above = t ? begin[t - 1] : 0;
            float* out = last ? logits : below + (i - begin[t]) * stride;
            const bool stay = stays(node), two = i + 1 < end[t] && stays(node + 1) == stay;
            if (t == 0)
                advance<Above::none, 1>(forest, d, node, first_above, W_hi, above, rows, next, out, stride);
            else if (stay && two)
                advance<Above::same_lanes, 2>(forest, d, node, first_above, W_hi, above, rows, next, out, stride);
            else if (stay)
                advance<Above::same_lanes, 1>(forest, d, node, first_above, W_hi, above, rows, next, out, stride);
            else if (two)
                advance<Above::other_lanes, 2>(forest, d, node, first_above, W_hi, above, rows, next, out, stride);
            else
                advance<Above::other_lanes, 1>(forest, d, node, first_above, W_hi, above, rows, next, out, stride);
            const int count = t > 0 && two ? 2 : 1;
            if (last)
                for (int p = 0; p < count; ++p) leaf(i + p, logits + p * stride);
            i += count;
        }
        float* swap = above;
        above = below;
        below = swap;
    }
}

// Readout --------------------------------------------------------------------------------------------------------

// Leaves (or lane groups of them) whose features wait for the readout.
constexpr int held_leaves = cubature_held_leaves;

OUTSAMPLE_INLINE vfloat gelu_of(vfloat a) {
    return broadcast(0.5f) * a * (broadcast(1.0f) + tanh_of(broadcast(0.851f) * a));
}

// Adds a vector to `lanes` doubles.
OUTSAMPLE_INLINE void add_to(double* sums, vfloat v) {
    for (int lane = 0; lane < lanes; ++lane) sums[lane] += static_cast<double>(v[lane]);
}

// sums[r] += weights[j][r] f[j] for R rows of the readout, `rows` apart for neighbouring features j, then the rest in
// halves.
template <bool networks, int R>
OUTSAMPLE_INLINE void add_features(int left, int rows, const float* weights, int features, const float* f,
                                   double* sums) {
    const int unit = networks ? 1 : lanes;
    for (; left >= R; left -= R, weights += R * unit, sums += R * lanes) {
        vfloat sum[R];
        for (int r = 0; r < R; ++r) sum[r] = vfloat{};
        for (int j = 0; j < features; ++j) {
            const vfloat fj = load<vfloat>(f + j * lanes);
            for (int r = 0; r < R; ++r)
                sum[r] += value_at<networks>(weights, static_cast<std::int64_t>(j) * rows + r) * fj;
        }
        for (int r = 0; r < R; ++r) add_to(sums + r * lanes, sum[r]);
    }
    if constexpr (R > 1) add_features<networks, R / 2>(left, rows, weights, features, f, sums);
}

// Features of leaves are gathered, and read out a few leaves at a time. sums: (1 + units) vectors of doubles. A
// relative readout keeps the margins until all are known.
template <bool networks, bool relative>
struct Reader {
    const ReadoutView& readout;
    float* margins;  // a vector for each leaf, of a relative readout
    float* held;
    double* sums;
    vfloat total{};
    int first = 0, count = 0;

    __attribute__((always_inline)) Reader(const ReadoutView& view, int leaves, float*& scratch, double* result)
        : readout(view), margins(scratch), sums(result) {
        held = margins + (relative ? leaves * lanes : 0);
        scratch = held + held_leaves * readout.features.count * lanes;
        for (int i = 0; i < (1 + readout.units) * lanes; ++i) sums[i] = 0;
    }
    // Leaves come one after the other.
    __attribute__((always_inline)) void add(int leaf, const Signals& signals) {
        if constexpr (!relative) return read(leaf, signals.margin, signals);
        store(margins + leaf * lanes, signals.margin);
        total += max(signals.margin, -signals.margin) *
                 value_at<networks>(readout.features.inverse_scale, leaf);  // 0 on padding lanes
    }
    __attribute__((always_inline)) void finish(int leaves) {
        if constexpr (relative) {
            if (!networks) {
                float sum = 0;
                for (int lane = 0; lane < lanes; ++lane) sum += total[lane];
                total = broadcast(sum);
            }
            // A dead network's margins are all zero; they stay so.
            const vfloat by = broadcast(static_cast<float>(readout.relative)) / max(total, broadcast(1e-30f));
            for (int leaf = 0; leaf < leaves; ++leaf) read(leaf, load<vfloat>(margins + leaf * lanes) * by, Signals{});
        }
        flush();
    }

  private:
    __attribute__((always_inline)) void read(int leaf, vfloat margin, const Signals& signals) {
        vfloat feature[cubature_max_features];
        features_of<networks>(readout.features, leaf, margin, signals, feature);
        if (count == 0) first = leaf;
        float* to = held + count * readout.features.count * lanes;
        for (int k = 0; k < readout.features.count; ++k) store(to + k * lanes, feature[k]);
        if (++count == held_leaves) flush();
    }
    __attribute__((always_inline)) void flush() {
        const int rows = 1 + readout.units, features = readout.features.count;
        const std::int64_t at = static_cast<std::int64_t>(first) * features * rows;
        add_features<networks, 8>(rows, rows, readout.weights + at * (networks ? 1 : lanes), count * features, held,
                                  sums);
        count = 0;
    }
};

OUTSAMPLE_INLINE int leaves_of(const ForestView& forest) {
    return forest.level_begin[forest.seq_len] - forest.level_begin[forest.seq_len - 1];
}

template <int D, bool relative>
void read_points(const ForestView& forest, const ReadoutView& readout, const float* weights, float* scratch,
                 double* sums) {
    Reader<false, relative> reader(readout, leaves_of(forest), scratch, sums);
    float* logits = scratch;
    float* products = logits + 2 * forest.outputs * lanes;
    for (int chunk = 0; chunk < forest.chunks; ++chunk)
        walk_points<D>(forest, chunk, weights, products, logits, [&](int leaf, const float* of_leaf) {
            const vint target = load<vint>(forest.target + static_cast<std::int64_t>(leaf) * lanes);
            reader.add(leaf, signals_of<false>(forest.outputs, target, of_leaf));
        });
    reader.finish(leaves_of(forest));
}

template <bool relative>
void read_networks(const ForestView& forest, const ReadoutView& readout, const float* packed, float* scratch,
                   double* sums) {
    Reader<true, relative> reader(readout, leaves_of(forest), scratch, sums);
    float* logits = scratch;
    float* states = logits + tile_nodes * forest.outputs * lanes;
    float* products = states + tile_nodes * forest.hidden_size * lanes;
    for (int chunk = 0; chunk < forest.chunks; ++chunk)
        walk_networks<false>(forest, chunk, packed, products, states, logits, [&](int first, int count, float* tile) {
            for (int p = 0; p < count; ++p, tile += forest.outputs * lanes)
                reader.add(first + p, signals_of<false>(forest.outputs, forest.target[first + p], tile));
        });
    reader.finish(leaves_of(forest));
}

// Derivative of the features' weighted sum with respect to the last state, networks in lanes. coefficients: a vector
// per feature.
OUTSAMPLE_INLINE void leaf_adjoint(const ForestView& forest, const FeatureView& view, int leaf, const float* logits,
                                   const float* W_oh, const vfloat* coefficients, float* adjoint) {
    const int d = forest.hidden_size, outputs = forest.outputs, target = forest.target[leaf];
    const Signals s = signals_of<true>(outputs, target, logits);
    vfloat feature[cubature_max_features], margin, own, runner_up;
    features_of<true>(view, leaf, s.margin, s, feature);
    feature_slopes(view, leaf, feature, coefficients, margin, own, runner_up);
    own += margin + runner_up;
    for (int j = 0; j < d; ++j) store(adjoint + j * lanes, own * load<vfloat>(W_oh + (target * d + j) * lanes));
    if (outputs == 1) return;
    // The state is passed over once: per state, all rivals' columns.
    constexpr int together = 8;
    for (int first = 0; first < outputs; first += together) {
        const int count = outputs - first < together ? outputs - first : together;
        vfloat share[together];
        for (int k = 0; k < together; ++k)
            share[k] = k < count && first + k != target ? select(s.best == first + k, margin, vfloat{}) +
                                                              select(s.second == first + k, runner_up, vfloat{})
                                                        : vfloat{};
        for (int j = 0; j < d; ++j) {
            vfloat sum = load<vfloat>(adjoint + j * lanes);
            for (int k = 0; k < count; ++k) sum -= share[k] * load<vfloat>(W_oh + ((first + k) * d + j) * lanes);
            store(adjoint + j * lanes, sum);
        }
    }
}

#if defined(__AVX512F__)
// Entry k of vector i becomes entry i of vector k: in each step, half of every block of 2 step x 2 step changes sides.
OUTSAMPLE_INLINE void transpose(vfloat (&v)[16]) {
    vint lane;
    for (int l = 0; l < 16; ++l) lane[l] = l;
#pragma GCC unroll 4
    for (int step = 1; step < 16; step *= 2) {
        const vint moves = (lane & step) != 0;
        const vint first = select(moves, lane - step + 16, lane), second = select(moves, lane + 16, lane + step);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
            if (i & step) continue;
            const __m512 a = (__m512)v[i], b = (__m512)v[i + step];
            v[i] = (vfloat)_mm512_permutex2var_ps(a, (__m512i)first, b);
            v[i + step] = (vfloat)_mm512_permutex2var_ps(a, (__m512i)second, b);
        }
    }
}
#endif

}  // namespace

int cubature_lanes() { return lanes; }

void cubature_pack(const float* const* weights, int count, int size, float* packed) {
    // Lanes without a network repeat the last one.
    const float* row[lanes];
    for (int lane = 0; lane < lanes; ++lane) row[lane] = weights[lane < count ? lane : count - 1];
    int i = 0;
#if defined(__AVX512F__)
    // One by one, this would take a fifth of the smallest rules' time.
    for (; i + lanes <= size; i += lanes) {
        vfloat block[lanes];
        for (int lane = 0; lane < lanes; ++lane) block[lane] = load<vfloat>(row[lane] + i);
        transpose(block);
        for (int k = 0; k < lanes; ++k) store(packed + (i + k) * lanes, block[k]);
    }
#endif
    for (; i < size; ++i)
        for (int lane = 0; lane < lanes; ++lane) packed[i * lanes + lane] = row[lane][i];
}

namespace {

// Walks all leaves, networks in lanes, for results of several rows per leaf: put(row, vector) stores one.
template <class Leaf>
OUTSAMPLE_INLINE void rows_of_leaves(const ForestView& forest, const float* packed, float* scratch, float* out,
                                     std::int64_t stride, int filled, Leaf leaf_rows) {
    const int d = forest.hidden_size, outputs = forest.outputs;
    float* room = scratch;
    float* states = room + tile_nodes * outputs * lanes;
    float* products = states + tile_nodes * d * lanes;
    const auto put = [&](std::int64_t row, vfloat v) {
        float* to = out + row * stride;
        if (filled == lanes)
            store(to, v);
        else
            for (int lane = 0; lane < filled; ++lane) to[lane] = v[lane];
    };
    for (int chunk = 0; chunk < forest.chunks; ++chunk)
        walk_networks<false>(forest, chunk, packed, products, states, room, [&](int first, int count, float* tile) {
            for (int p = 0; p < count; ++p, tile += outputs * lanes) {
                const std::int64_t leaf = first + p;
                leaf_rows(leaf, signals_of<false>(outputs, forest.target[leaf], tile), put);
            }
        });
}

}  // namespace

void cubature_signals(const ForestView& forest, const float* packed, float* scratch, float* out, std::int64_t stride,
                      int filled, bool all) {
    rows_of_leaves(forest, packed, scratch, out, stride, filled,
                   [&](std::int64_t leaf, const Signals& s, const auto& put) {
                       if (!all) return put(leaf, s.margin);
                       put(3 * leaf, s.margin);
                       put(3 * leaf + 1, s.own);
                       put(3 * leaf + 2, s.runner_up);
                   });
}

void cubature_features(const ForestView& forest, const FeatureView& view, const float* mean, const float* inverse_sd,
                       const float* packed, float* scratch, float* out, std::int64_t stride, int filled) {
    rows_of_leaves(forest, packed, scratch, out, stride, filled,
                   [&](std::int64_t leaf, const Signals& s, const auto& put) {
                       vfloat feature[cubature_max_features];
                       features_of<true>(view, leaf, s.margin, s, feature);
                       for (int k = 0; k < view.count; ++k) {
                           const std::int64_t row = leaf * view.count + k;
                           put(row, (feature[k] - broadcast(mean[row])) * broadcast(inverse_sd[row]));
                       }
                   });
}

void cubature_tangents(const ForestView& forest, const FeatureView& view, const float* packed, float* scratch,
                       const float* coefficients, bool shared, float* tangents, std::int64_t stride, int filled) {
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
        walk_networks<true>(forest, chunk, packed, products, states, room, [&](int first, int count, float* logits) {
            for (int p = 0; p < count; ++p) {
                const int leaf = first + p;
                vfloat c[cubature_max_features];
                for (int k = 0; k < view.count; ++k) {
                    const std::int64_t row = static_cast<std::int64_t>(leaf) * view.count + k;
                    if (shared) {
                        c[k] = broadcast(coefficients[row]);
                        continue;
                    }
                    const float* from = coefficients + row * stride;
                    float held[lanes];
                    for (int lane = 0; lane < lanes; ++lane) held[lane] = lane < filled ? from[lane] : 0.0f;
                    c[k] = load<vfloat>(held);
                }
                leaf_adjoint(forest, view, leaf, logits + p * outputs * lanes, W_oh, c,
                             own + (leaf - begin[n - 1]) * d * lanes);
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
                    product(nodes, packed, d, 1, d, d, g, d, tile, d);
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
    const auto read = forest.hidden_size == 16 ? (readout.relative ? read_points<16, true> : read_points<16, false>)
                                               : (readout.relative ? read_points<0, true> : read_points<0, false>);
    read(forest, readout, weights, scratch, sums);
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
    const auto read = readout.relative ? read_networks<true> : read_networks<false>;
    read(forest, readout, packed, scratch, result);
    for (int u = 0; u < readout.units; ++u) {
        float activation[lanes];
        for (int lane = 0; lane < lanes; ++lane) activation[lane] = static_cast<float>(result[(1 + u) * lanes + lane]);
        const vfloat gelu = gelu_of(load<vfloat>(activation) + broadcast(readout.bias[u]));
        add_to(result, gelu * broadcast(readout.out[u]));
    }
}

void cubature_errors(const SketchView& sketch, const float* packed, float* results) {
    vfloat levels[2] = {};
    const int half = sketch.groups / 2;
    for (int g = 0; g < sketch.groups; ++g) {
        vfloat sum = broadcast(-sketch.sum[g]);
        for (int i = g * sketch.size; i < (g + 1) * sketch.size; ++i)
            sum += broadcast(sketch.sign[i]) * load<vfloat>(packed + sketch.index[i] * lanes);
        sum *= broadcast(sketch.inverse_scale[g]);
        levels[g >= half] += sum * sum;
    }
    for (vfloat& level : levels) level *= broadcast(1.0f / static_cast<float>(half > 1 ? half : 1));
    // As ErrorModel computes it for one network.
    const ErrorModel& error = *sketch.error;
    const auto of = [](double value) { return broadcast(static_cast<float>(value)); };
    const auto log_of = [](vfloat x) { return vlog(max(x, broadcast(1.2e-38f))); };
    const auto within = [&](const ErrorModel::Range& range, vfloat x) {
        return min(max(x, of(range.least)), of(range.most));
    };
    const vfloat s = within(error.small, log_of(levels[0])), l = within(error.large, log_of(levels[1]));
    const auto log_likelihood = [&](const ErrorModel::Law& law) {
        const vfloat u = of(law.across) * (s - of(law.small));
        const vfloat v = of(law.mixed) * (s - of(law.small)) + of(law.down) * (l - of(law.large));
        return of(law.log_density) - (u * u + v * v) * 0.5f;
    };
    vfloat best = broadcast(-3.0e38f), total{}, squared_error{};
    for (const ErrorModel::Law& law : error.laws) best = max(best, log_likelihood(law));
    for (const ErrorModel::Law& law : error.laws) {
        const vfloat likelihood = vexp(log_likelihood(law) - best);
        total += likelihood;
        squared_error += likelihood * of(law.squared_error);
    }
    const vfloat beyond = log_of((levels[0] + levels[1]) * 0.5f) - of(error.mean.most);
    store(results, vsqrt(squared_error / total) * vexp(max(beyond, vfloat{})));
    store(results + lanes, levels[0]);
    store(results + 2 * lanes, levels[1]);
}

}  // namespace outsample::OUTSAMPLE_ISA
