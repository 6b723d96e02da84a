// Forward pass, loss and backward pass through time, fused per tile of sequences.
//
// Sequences stand in lanes, V vectors side by side. All the work is in three small matrix products per time step (W h,
// W^T delta and delta h^T), each done in blocks whose sums stay in registers. Sums over sequences are kept per lane and
// added across lanes once per call.
#include "outsample/training.hpp"

#include "label.hpp"
#include "normal.hpp"

namespace outsample::OUTSAMPLE_ISA {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int sums_in_registers = 16;  // of 32 registers
constexpr int block_columns = 4;
#else
constexpr int sums_in_registers = 8;  // of 16 registers
constexpr int block_columns = 2;
#endif
constexpr int V = 2;              // vectors of sequences per tile; even, as normals come for pairs of sequences
constexpr int width = V * lanes;  // sequences per tile
constexpr int chunk = gradient_chunk;
static_assert(width <= tile_sequences && tile_sequences % width == 0, "scratch and pieces are sized for whole tiles");

constexpr std::uint32_t training_domain = 0x74726169;  // keeps the stream apart from that of estimates

template <int R, class Start, class Finish>
OUTSAMPLE_INLINE void multiply_rows(const float* W, int row_stride, int column_stride, int first, int columns,
                                    const float* in, const Start& start, const Finish& finish) {
    vfloat sum[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[r][v] = start(first + r, v);
    const float* w = W + first * row_stride;
    for (int j = 0; j < columns; ++j) {
        vfloat h[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) h[v] = load<vfloat>(in + j * width + v * lanes);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const vfloat weight = broadcast(w[r * row_stride + j * column_stride]);
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) sum[r][v] += weight * h[v];
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) finish(first + r, v, sum[r][v]);
}

// finish(i, v, start(i, v) + sum over j of W[i * row_stride + j * column_stride] in[j][v]) for all i < rows.
template <class Start, class Finish>
OUTSAMPLE_INLINE void multiply(const float* W, int row_stride, int column_stride, int rows, int columns,
                               const float* in, const Start& start, const Finish& finish) {
    constexpr int R = sums_in_registers / V;
    int i = 0;
    for (; i + R <= rows; i += R) multiply_rows<R>(W, row_stride, column_stride, i, columns, in, start, finish);
    if constexpr (R > 4)
        if (i + 4 <= rows) {
            multiply_rows<4>(W, row_stride, column_stride, i, columns, in, start, finish);
            i += 4;
        }
    if constexpr (R > 2)
        if (i + 2 <= rows) {
            multiply_rows<2>(W, row_stride, column_stride, i, columns, in, start, finish);
            i += 2;
        }
    for (; i < rows; ++i) multiply_rows<1>(W, row_stride, column_stride, i, columns, in, start, finish);
}

template <int RI, int RJ>
OUTSAMPLE_INLINE void outer_block(bool fresh, int pairs, const float* const* a, const float* const* b, int i, int j,
                                  int columns, float* sums) {
    vfloat sum[RI][RJ];
#pragma GCC unroll 8
    for (int r = 0; r < RI; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < RJ; ++c)
            sum[r][c] = fresh ? vfloat{} : load<vfloat>(sums + ((i + r) * columns + j + c) * lanes);
    for (int p = 0; p < pairs; ++p) {
        const float* left = a[p] + i * width;
        const float* right = b[p] + j * width;
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            vfloat h[RJ];
#pragma GCC unroll 8
            for (int c = 0; c < RJ; ++c) h[c] = load<vfloat>(right + c * width + v * lanes);
#pragma GCC unroll 8
            for (int r = 0; r < RI; ++r) {
                const vfloat delta = load<vfloat>(left + r * width + v * lanes);
#pragma GCC unroll 8
                for (int c = 0; c < RJ; ++c) sum[r][c] += delta * h[c];
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < RI; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < RJ; ++c) store(sums + ((i + r) * columns + j + c) * lanes, sum[r][c]);
}

template <int RI>
OUTSAMPLE_INLINE void outer_rows(bool fresh, int pairs, const float* const* a, const float* const* b, int i,
                                 int columns, float* sums) {
    int j = 0;
    for (; j + block_columns <= columns; j += block_columns)
        outer_block<RI, block_columns>(fresh, pairs, a, b, i, j, columns, sums);
    if constexpr (block_columns > 2)
        if (j + 2 <= columns) {
            outer_block<RI, 2>(fresh, pairs, a, b, i, j, columns, sums);
            j += 2;
        }
    if (j < columns) outer_block<RI, 1>(fresh, pairs, a, b, i, j, columns, sums);
}

// sums[i][j] = (fresh ? 0 : sums[i][j]) + sum over pairs p and vectors v of a[p][i][v] b[p][j][v], lane by lane.
OUTSAMPLE_INLINE void outer(bool fresh, int pairs, const float* const* a, const float* const* b, int rows, int columns,
                            float* sums) {
    int i = 0;
    for (; i + 4 <= rows; i += 4) outer_rows<4>(fresh, pairs, a, b, i, columns, sums);
    if (i + 2 <= rows) {
        outer_rows<2>(fresh, pairs, a, b, i, columns, sums);
        i += 2;
    }
    if (i < rows) outer_rows<1>(fresh, pairs, a, b, i, columns, sums);
}

// The same for one column: more rows together, as many independent sums as it takes to hide the latency of an addition.
OUTSAMPLE_INLINE void outer_column(bool fresh, int pairs, const float* const* a, const float* const* b, int rows,
                                   float* sums) {
    int i = 0;
    for (; i + 8 <= rows; i += 8) outer_block<8, 1>(fresh, pairs, a, b, i, 0, 1, sums);
    for (; i < rows; ++i) outer_block<1, 1>(fresh, pairs, a, b, i, 0, 1, sums);
}

OUTSAMPLE_INLINE vfloat keep(vint mask, vfloat value) { return (vfloat)(mask & (vint)value); }

// Positions for the argmax family, the bits of the value for the median.
OUTSAMPLE_INLINE vint task_target(Task task, const float* x, int n) {
    if (task != Task::median) return label(task, x, n, width);
    return (vint)median(x, n, width);
}

// D is the hidden size where known when compiling, 0 otherwise.
template <int D>
BatchResult run(const Network& network, const Sequences& sequences, const Targets& targets, float* gradient,
                float* input_gradient, float* scratch) {
    const int d = D ? D : network.hidden_size;
    const int n = network.seq_len, outputs = network.output_size;
    const float *W_hh = network.W_hh, *W_hi = network.W_hi, *W_oh = network.W_oh;
    const Task task = targets.task;

    // Sums per lane, in the order of the parameters, then two of d for the folded first step.
    float* sums = scratch;
    float* sum_hh = sums;
    float* sum_hi = sum_hh + d * d * lanes;
    float* sum_oh = sum_hi + d * lanes;
    float* sum_bh = sum_oh + outputs * d * lanes;
    float* sum_bo = sum_bh + (network.b_h ? d * lanes : 0);
    float* sum_plus = sum_bo + (network.b_o ? outputs * lanes : 0);
    float* sum_minus = sum_plus + d * lanes;
    const int sum_count = static_cast<int>((sum_minus - sums) / lanes) + d;
    float* x = sums + (sum_count + lanes) * lanes;  // n vectors per tile
    float* x_plus = x + n * width;
    float* x_minus = x_plus + width;
    float* h = x_minus + width;        // h_1 ... h_n
    float* delta = h + n * d * width;  // ring of chunk + 1
    float* logits = delta + (chunk + 1) * d * width;
    float* delta_o = logits + outputs * width;
    float* first_plus = delta_o + outputs * width;  // d each
    float* first_minus = first_plus + d;
    float* relu_hi = first_minus + d;
    float* relu_minus_hi = relu_hi + d;
    float* plus_slope = relu_minus_hi + d;
    float* minus_slope = plus_slope + d;
    float* totals = minus_slope + d;  // as many as there are sums, up to whole vectors
    for (float* p = sum_bh; p < sum_plus; p += lanes) store(p, vfloat{});
    bool fresh = true;  // the sums of W_hh and W_hi hold nothing yet

    // Without a bias, h_1 = relu(W_hi) max(x_1, 0) + relu(-W_hi) max(-x_1, 0), so everything that has to do with h_1
    // needs two numbers per sequence in place of d.
    const bool fold = !network.b_h && n >= 2 && !input_gradient;
    if (fold)
        for (int i = 0; i < d; ++i) {
            relu_hi[i] = W_hi[i] > 0 ? W_hi[i] : 0;
            relu_minus_hi[i] = W_hi[i] < 0 ? -W_hi[i] : 0;
            plus_slope[i] = W_hi[i] > 0;
            minus_slope[i] = W_hi[i] < 0;
        }
    if (fold)
        for (int i = 0; i < d; ++i) {
            float plus = 0, minus = 0;
            for (int j = 0; j < d; ++j) {
                plus += W_hh[i * d + j] * relu_hi[j];
                minus += W_hh[i * d + j] * relu_minus_hi[j];
            }
            first_plus[i] = plus;
            first_minus[i] = minus;
        }

    vfloat loss = {};
    vint correct = {};
    for (std::int64_t done = 0; done < sequences.count; done += width) {
        const std::int64_t left = sequences.count - done;
        const int filled = left < width ? static_cast<int>(left) : width;
        if (sequences.x) {
            for (int t = 0; t < n; ++t)
                for (int s = 0; s < width; ++s) x[t * width + s] = s < filled ? sequences.x[(done + s) * n + t] : 0;
        } else {
            for (int v = 0; v < V; v += 2)
                normal_pairs(sequences.key, training_domain, (sequences.first + done) / 2 + v / 2 * lanes, n,
                             x + v * lanes, x + (v + 1) * lanes, width);
        }

        // Forward.
        for (int t = fold ? 1 : 0; t < n; ++t) {
            const float* xt = x + t * width;
            float* next = h + t * d * width;
            const auto finish = [&](int i, int v, vfloat sum)
                                    __attribute__((always_inline)) { store(next + i * width + v * lanes, relu(sum)); };
            if (fold && t == 1) {
                for (int v = 0; v < V; ++v) {
                    const vfloat x1 = load<vfloat>(x + v * lanes);
                    const vfloat plus = relu(x1), minus = plus - x1, x2 = load<vfloat>(xt + v * lanes);
                    store(x_plus + v * lanes, plus);
                    store(x_minus + v * lanes, minus);
                    for (int i = 0; i < d; ++i)
                        finish(i, v,
                               broadcast(first_plus[i]) * plus + broadcast(first_minus[i]) * minus +
                                   broadcast(W_hi[i]) * x2);
                }
            } else {
                const auto start = [&](int i, int v) __attribute__((always_inline)) {
                    const vfloat sum = broadcast(W_hi[i]) * load<vfloat>(xt + v * lanes);
                    return network.b_h ? sum + broadcast(network.b_h[i]) : sum;
                };
                multiply(W_hh, d, 1, d, t ? d : 0, next - d * width, start, finish);
            }
        }
        const float* h_n = h + (n - 1) * d * width;
        multiply(
            W_oh, d, 1, outputs, d, h_n,
            [&](int o, int)
                __attribute__((always_inline)) { return network.b_o ? broadcast(network.b_o[o]) : vfloat{}; },
            [&](int o, int v, vfloat sum)
                __attribute__((always_inline)) { store(logits + o * width + v * lanes, sum); });

        // Loss, and its derivative with respect to the logits.
        for (int v = 0; v < V; ++v) {
            vint valid;
            for (int lane = 0; lane < lanes; ++lane) valid[lane] = v * lanes + lane < filled ? -1 : 0;
            vint target = {};
            if (targets.targets || targets.logit_gradients) {
                for (int lane = 0; lane < lanes; ++lane) {
                    const int s = v * lanes + lane;
                    if (s >= filled) continue;
                    if (targets.targets) {
                        const float value = targets.targets[done + s];
                        target[lane] = static_cast<std::int32_t>(value);
                        if (task == Task::median) std::memcpy(reinterpret_cast<char*>(&target) + 4 * lane, &value, 4);
                    } else {
                        for (int o = 0; o < outputs; ++o)
                            delta_o[o * width + s] = targets.logit_gradients[(done + s) * outputs + o];
                    }
                }
            } else {
                target = task_target(task, x + v * lanes, n);
            }
            if (targets.logit_gradients) {
                for (int o = 0; o < outputs; ++o) {
                    float* p = delta_o + o * width + v * lanes;
                    store(p, keep(valid, load<vfloat>(p)));
                }
            } else if (task == Task::median) {
                const vfloat error = keep(valid, load<vfloat>(logits + v * lanes) - (vfloat)target);
                loss += error * error;
                store(delta_o + v * lanes, error + error);
            } else {
                vfloat top = load<vfloat>(logits + v * lanes), right = {}, total = {};
                vint top_at = {};
                for (int o = 0; o < outputs; ++o) {
                    const vfloat z = load<vfloat>(logits + o * width + v * lanes);
                    top_at = z > top ? broadcast(o) : top_at;
                    top = max(top, z);
                    right = target == broadcast(o) ? z : right;
                }
                for (int o = 0; o < outputs; ++o) {
                    const vfloat e = vexp(load<vfloat>(logits + o * width + v * lanes) - top);
                    total += e;
                    store(delta_o + o * width + v * lanes, e);
                }
                const vfloat scale = keep(valid, 1.0f / total);
                for (int o = 0; o < outputs; ++o) {
                    float* p = delta_o + o * width + v * lanes;
                    const vfloat one = keep(valid & (target == broadcast(o)), broadcast(1.0f));
                    store(p, load<vfloat>(p) * scale - one);
                }
                loss += keep(valid, vlog(total) + top - right);
                correct -= valid & (top_at == target);
            }
        }

        // Backward. delta_t, the derivative with respect to the argument of step t's relu, is in slot (n - t) of the
        // ring; weight gradients of up to `chunk` steps are added together.
        const float *lefts[chunk], *rights[chunk], *inputs[chunk];
        const float* only = delta_o;
        outer(done == 0, 1, &only, &h_n, outputs, d, sum_oh);
        if (network.b_o)
            for (int o = 0; o < outputs; ++o)
                for (int v = 0; v < V; ++v)
                    store(sum_bo + o * lanes,
                          load<vfloat>(sum_bo + o * lanes) + load<vfloat>(delta_o + o * width + v * lanes));
        const auto zero = [](int, int) __attribute__((always_inline)) { return vfloat{}; };
        const auto backward = [&](const float* W, int rows, const float* in, int t,
                                  float* out) __attribute__((always_inline)) {
            const float* mask = h + (t - 1) * d * width;  // h_t
            multiply(W, 1, d, d, rows, in, zero, [&](int i, int v, vfloat sum) __attribute__((always_inline)) {
                const vint active = load<vfloat>(mask + i * width + v * lanes) > vfloat{};
                store(out + i * width + v * lanes, keep(active, sum));
            });
        };
        int slot = 0, pairs = 0;
        backward(W_oh, outputs, delta_o, n, delta);
        const int last = fold ? 2 : 1;
        for (int t = n;; --t) {
            const float* now = delta + slot * d * width;
            lefts[pairs] = now;
            inputs[pairs] = x + (t - 1) * width;
            rights[pairs] = h + (t - 2) * d * width;  // not read for t = last
            ++pairs;
            if (network.b_h)
                for (int i = 0; i < d; ++i)
                    for (int v = 0; v < V; ++v)
                        store(sum_bh + i * lanes,
                              load<vfloat>(sum_bh + i * lanes) + load<vfloat>(now + i * width + v * lanes));
            if (input_gradient)
                multiply(W_hi, 0, 1, 1, d, now, zero, [&](int, int v, vfloat sum) __attribute__((always_inline)) {
                    for (int lane = 0; lane < lanes; ++lane) {
                        const int s = v * lanes + lane;
                        if (s < filled) input_gradient[(done + s) * n + t - 1] = sum[lane];
                    }
                });
            if (t == last || pairs == chunk) {
                outer(fresh, t == last ? pairs - 1 : pairs, lefts, rights, d, d, sum_hh);
                outer_column(fresh, pairs, lefts, inputs, d, sum_hi);
                fresh = false;
                pairs = 0;
            }
            if (t == last) {
                if (fold) {
                    const float *plus = x_plus, *minus = x_minus;
                    outer_column(done == 0, 1, &now, &plus, d, sum_plus);
                    outer_column(done == 0, 1, &now, &minus, d, sum_minus);
                }
                break;
            }
            slot = slot == chunk ? 0 : slot + 1;
            backward(W_hh, d, now, t - 1, delta + slot * d * width);
        }
    }

    const int parameters = static_cast<int>((sum_plus - sums) / lanes);
    add_lanes(sums, fold ? parameters + 2 * d : parameters, totals);
    if (fold) {
        const float* plus = totals + parameters;
        const float* minus = plus + d;
        for (int i = 0; i < d; ++i) {
            const float *row = W_hh + i * d, a = plus[i], b = minus[i];
            float* out = totals + i * d;
            float* out_hi = totals + d * d;
            for (int j = 0; j < d; ++j) {
                out[j] += a * relu_hi[j] + b * relu_minus_hi[j];
                out_hi[j] += row[j] * (a * plus_slope[j] - b * minus_slope[j]);
            }
        }
    }
    std::memcpy(gradient, totals, parameters * sizeof(float));
    BatchResult result = {0, 0};
    for (int lane = 0; lane < lanes; ++lane) {
        result.loss += loss[lane];
        result.correct += correct[lane];
    }
    return result;
}

}  // namespace

BatchResult loss_gradient_kernel(const Network& network, const Sequences& sequences, const Targets& targets,
                                 float* gradient, float* input_gradient, float* scratch) {
    switch (network.hidden_size) {
        case 2:
            return run<2>(network, sequences, targets, gradient, input_gradient, scratch);
        case 4:
            return run<4>(network, sequences, targets, gradient, input_gradient, scratch);
        case 8:
            return run<8>(network, sequences, targets, gradient, input_gradient, scratch);
        case 16:
            return run<16>(network, sequences, targets, gradient, input_gradient, scratch);
        case 32:
            return run<32>(network, sequences, targets, gradient, input_gradient, scratch);
        default:
            return run<0>(network, sequences, targets, gradient, input_gradient, scratch);
    }
}

bool adamw_kernel(const AdamW& adamw, double learning_rate, std::int64_t step, double scale, std::int64_t count,
                  const float* gradients, std::int64_t pieces, float* parameters, float* first_moment,
                  float* second_moment) {
    const double correction1 = 1 - __builtin_pow(adamw.beta1, step), correction2 = 1 - __builtin_pow(adamw.beta2, step);
    const vfloat beta1 = broadcast(static_cast<float>(adamw.beta1));
    const vfloat rest1 = broadcast(static_cast<float>(1 - adamw.beta1));
    const vfloat beta2 = broadcast(static_cast<float>(adamw.beta2));
    const vfloat rest2 = broadcast(static_cast<float>(1 - adamw.beta2));
    const vfloat shrink = broadcast(static_cast<float>(1 - learning_rate * adamw.weight_decay));
    const vfloat step_size = broadcast(static_cast<float>(learning_rate / correction1));
    const vfloat root = broadcast(static_cast<float>(__builtin_sqrt(correction2)));
    const vfloat eps = broadcast(static_cast<float>(adamw.eps)), factor = broadcast(static_cast<float>(scale));
    vfloat finite = {};
    for (std::int64_t i = 0; i < count; i += lanes) {
        vfloat sum = load<vfloat>(gradients + i);
        for (std::int64_t piece = 1; piece < pieces; ++piece) sum += load<vfloat>(gradients + piece * count + i);
        const vfloat g = factor * sum;
        const vfloat m = beta1 * load<vfloat>(first_moment + i) + rest1 * g;
        const vfloat v = beta2 * load<vfloat>(second_moment + i) + rest2 * (g * g);
        const vfloat p = shrink * load<vfloat>(parameters + i) - step_size * m / (vsqrt(v) / root + eps);
        store(first_moment + i, m);
        store(second_moment + i, v);
        store(parameters + i, p);
        finite += p * 0.0f;  // not a number from the first infinity or NaN on
    }
    bool result = true;
    for (int lane = 0; lane < lanes; ++lane) result = result && finite[lane] == 0;
    return result;
}

}  // namespace outsample::OUTSAMPLE_ISA
