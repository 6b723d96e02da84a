#include "outsample/propagation.hpp"

#include "vmath64.hpp"

namespace outsample::OUTSAMPLE_ISA {

namespace {

// Columns of a register tile: 4 x 4 accumulators fit 32 vector registers, 4 x 2 fit 16.
constexpr int tile = propagation_tile;
constexpr int tile_columns = lanes == 16 ? 4 : 2;

template <class T>
struct Lanes;
template <>
struct Lanes<float> {
    typedef vfloat V;
    typedef vint I;
    typedef double Inputs __attribute__((vector_size(lanes * 8)));  // as many doubles
    typedef vint Parents;                                           // as many ints
    static constexpr int count = lanes;
    static constexpr float tiny = 1e-30f;    // a variance below it counts as zero (states are scaled to about 1)
    static constexpr float far = 13;         // |mean / standard deviation| beyond which the density vanishes
    static constexpr float epsilon = 1e-6f;  // relative size of a variance that is rounding only
    static constexpr float floor = -30;      // exponent below which states are let fade: inputs come in at 0
};
template <>
struct Lanes<double> {
    typedef vdouble V;
    typedef vlong I;
    typedef vdouble Inputs;
    typedef std::int32_t Parents __attribute__((vector_size(double_lanes * 4)));
    static constexpr int count = double_lanes;
    static constexpr double tiny = 1e-280;
    static constexpr double far = 37;
    static constexpr double epsilon = 2e-15;
    static constexpr double floor = -200;
};

OUTSAMPLE_INLINE std::ptrdiff_t triangle(int i, int j) { return static_cast<std::ptrdiff_t>(i) * (i + 1) / 2 + j; }
OUTSAMPLE_INLINE std::ptrdiff_t symmetric(int i, int j) { return i > j ? triangle(i, j) : triangle(j, i); }

// v[index[lane]] for every lane.
OUTSAMPLE_INLINE vfloat permute(vfloat v, vint index) {
#if defined(__AVX512F__)
    return (vfloat)_mm512_permutexvar_ps((__m512i)index, (__m512)v);
#elif defined(__AVX2__)
    return (vfloat)_mm256_permutevar8x32_ps((__m256)v, (__m256i)index);
#else
    vfloat result;
    for (int lane = 0; lane < lanes; ++lane) result[lane] = v[index[lane]];
    return result;
#endif
}
OUTSAMPLE_INLINE vdouble permute(vdouble v, vlong index) {
#if defined(__AVX512F__)
    return (vdouble)_mm512_permutexvar_pd((__m512i)index, (__m512d)v);
#elif defined(__AVX2__)
    const vlong pair = index * 2;
    const vlong words = pair | ((pair + 1) << 32);
    return (vdouble)_mm256_permutevar8x32_ps((__m256)v, (__m256i)words);
#else
    vdouble result;
    for (int lane = 0; lane < double_lanes; ++lane) result[lane] = v[index[lane]];
    return result;
#endif
}

// 2^exponent for integer-valued exponents, clamped to the range of normal numbers.
OUTSAMPLE_INLINE vfloat power_of_two(vfloat exponent) {
    exponent = min(max(exponent, broadcast(-126.0f)), broadcast(127.0f));
    return (vfloat)((__builtin_convertvector(exponent, vint) + 127) << 23);
}
OUTSAMPLE_INLINE vdouble power_of_two(vdouble exponent) {
    exponent = min(max(exponent, broadcast(-1022.0)), broadcast(1023.0));
    // The integer stands in the low bits after 1.5 x 2^52 is added; the shift drops the rest.
    return (vdouble)(((vlong)(exponent + (6755399441055744.0 + 1023.0))) << 52);
}

// floor(log2 a), exact for positive normal numbers.
OUTSAMPLE_INLINE vfloat exponent_of(vfloat a) { return __builtin_convertvector(((vint)a >> 23) - 127, vfloat); }
OUTSAMPLE_INLINE vdouble exponent_of(vdouble a) {
    const vlong magic = (vlong)broadcast(6755399441055744.0);
    return (vdouble)(magic + ((vlong)a >> 52) - 1023) - 6755399441055744.0;
}

// A unit before the activation: N(mean, variance), in terms of a = mean / standard deviation.
template <class V>
struct Unit {
    V deviation, inverse, a, density, cdf;
    V mean, variance;  // after the activation
};

template <class T, class V>
OUTSAMPLE_INLINE Unit<V> rectify(V mean, V variance) {
    typedef Lanes<T> L;
    Unit<V> u;
    variance = max(variance, V{});
    u.inverse = reciprocal_sqrt(max(variance, broadcast(L::tiny)));
    u.deviation = variance * u.inverse;
    u.a = min(max(mean * u.inverse, broadcast(-L::far)), broadcast(L::far));
    V mills;
    normal(u.a, u.density, mills);
    const V x = max(u.a, -u.a);
    const V tail = u.density * mills;
    // r = E relu(-(x + U)) for a standard normal U; E relu(x + U) = x + r; Var relu(a + U) = Phi(a) - r (x + r), in
    // which nothing cancels for large a.
    const V r = u.density * (T(1) - x * mills);
    u.cdf = u.a > V{} ? T(1) - tail : tail;
    u.mean = max(mean, V{}) + u.deviation * r;
    u.variance = variance * max(u.cdf - r * (x + r), V{});
    return u;
}

// rows x d matrix W times symmetric S times W', lower triangle. Entry (i, j) of S is read from
// S[triangle(i, j) * s_stride], or where `diagonal` is set (i, i) from S[i * s_stride]; entry (i, j) of the result is
// written to out[triangle(i, j) * stride]. `product` holds tile x columns vectors.
template <class T, class V>
void congruence(const T* W, int rows, int d, int columns, const T* S, std::ptrdiff_t s_stride, bool diagonal,
                V* product, T* out, std::ptrdiff_t stride) {
    for (int i0 = 0; i0 < rows; i0 += tile) {
        for (int k = 0; diagonal && k < d; ++k) {
            const V s = load<V>(S + k * s_stride);
            for (int r = 0; r < tile; ++r) product[r * columns + k] = broadcast(W[(i0 + r) * columns + k]) * s;
        }
        for (int k0 = 0; !diagonal && k0 < d; k0 += tile_columns) {
            V sum[tile][tile_columns] = {};
            for (int j = 0; j < d; ++j) {
                V s[tile_columns];
                // Columns past the last repeat it; nothing reads their products.
                for (int c = 0; c < tile_columns; ++c)
                    s[c] = load<V>(S + symmetric(j, k0 + c < d ? k0 + c : d - 1) * s_stride);
                for (int r = 0; r < tile; ++r) {
                    const V w = broadcast(W[(i0 + r) * columns + j]);
                    for (int c = 0; c < tile_columns; ++c) sum[r][c] += w * s[c];
                }
            }
            for (int r = 0; r < tile; ++r)
                for (int c = 0; c < tile_columns; ++c) product[r * columns + k0 + c] = sum[r][c];
        }
        for (int l0 = 0; l0 < i0 + tile; l0 += tile_columns) {
            V sum[tile][tile_columns] = {};
            for (int k = 0; k < d; ++k)
                for (int c = 0; c < tile_columns; ++c) {
                    const V w = broadcast(W[(l0 + c) * columns + k]);
                    for (int r = 0; r < tile; ++r) sum[r][c] += w * product[r * columns + k];
                }
            for (int r = 0; r < tile && i0 + r < rows; ++r)
                for (int c = 0; c < tile_columns && l0 + c <= i0 + r; ++c)
                    store(out + triangle(i0 + r, l0 + c) * stride, sum[r][c]);
        }
    }
}

// out[i * stride] = sum_j W[i][j] in[j * in_stride].
template <class T, class V>
void matvec(const T* W, int rows, int d, int columns, const T* in, std::ptrdiff_t in_stride, T* out,
            std::ptrdiff_t stride) {
    for (int i0 = 0; i0 < rows; i0 += tile) {
        V sum[tile] = {};
        for (int j = 0; j < d; ++j) {
            const V x = load<V>(in + j * in_stride);
            for (int r = 0; r < tile; ++r) sum[r] += broadcast(W[(i0 + r) * columns + j]) * x;
        }
        for (int r = 0; r < tile && i0 + r < rows; ++r) store(out + (i0 + r) * stride, sum[r]);
    }
}

// The block in one place: rows of `stride` numbers, one row for each mean, each (co)variance and the exponent.
template <class T>
struct States {
    T *mean, *covariance, *exponent;
    std::ptrdiff_t stride;
};

template <class T>
struct Workspace {
    typedef typename Lanes<T>::V V;
    States<T> states, products;
    V *product, *terms, *inverse, *logits;
    T* outside;  // mean and covariance of the outputs
};

// W_hh applied to the states `first` ... of one vector.
template <class T, class V>
void multiply(const PaddedNetwork<T>& w, const States<T>& from, const States<T>& to, int first, int order,
              const Workspace<T>& work) {
    matvec<T, V>(w.W_hh, w.d, w.d, w.columns, from.mean + first, from.stride, to.mean + first, to.stride);
    if (order == 1)
        matvec<T, V>(w.W_hh_squared, w.d, w.d, w.columns, from.covariance + first, from.stride, to.covariance + first,
                     to.stride);
    else
        congruence<T, V>(w.W_hh, w.d, w.d, w.columns, from.covariance + first, from.stride, false, work.product,
                         to.covariance + first, to.stride);
    store(to.exponent + first, load<V>(from.exponent + first));
}

// Hermite terms of the covariance of two rectified units: c_k / sqrt(k!) for k = 1 ... 5 and, as the sixth, the root of
// all that is left of the variance. Every term is a positive semi-definite matrix (Schur product), the diagonal is
// exact, and so the sum is positive semi-definite whatever the correlations are; at |rho| = 1 between units of equal
// |a| it is exact.
constexpr int hermite_terms = propagation_terms;

template <class T, class V>
OUTSAMPLE_INLINE void hermite(const Unit<V>& u, V* terms) {
    const V s = u.deviation;
    const V f = s * u.density;
    const V a = u.a, b = a * a;
    terms[0] = s * u.cdf;
    terms[1] = f * T(0.70710678118654752440);
    terms[2] = f * a * T(-0.40824829046386301637);
    terms[3] = f * (b - T(1)) * T(0.20412414523193150818);
    terms[4] = f * a * (b - T(3)) * T(-0.09128709291752768557);
    V left = u.variance;
    for (int k = 0; k < hermite_terms - 1; ++k) left -= terms[k] * terms[k];
    left = max(left, V{});
    const V root = left * reciprocal_sqrt(max(left, broadcast(Lanes<T>::tiny)));
    terms[5] = b * (b - T(6)) + T(3) < V{} ? -root : root;
}

// One step for the children `first` ... of one vector: their parents' states, already multiplied by W_hh, plus this
// step's input, rectified.
template <class T, class V>
void activate(const PaddedNetwork<T>& w, const CellLevel& level, const States<T>* parents, const States<T>& out,
              int first, int order, const Workspace<T>& work) {
    typedef Lanes<T> L;
    const int d = w.d;
    V mean = __builtin_convertvector(load<typename L::Inputs>(level.mean + first), V);
    V variance = __builtin_convertvector(load<typename L::Inputs>(level.variance + first), V);
    V exponent{};
    typename L::I index{};
    int from = 0;
    if (parents) {
        // Children are sorted by parent and no parent is childless, so the parents of neighbours are neighbours.
        from = level.parent[first];
        index = __builtin_convertvector(load<typename L::Parents>(level.parent + first) - from, typename L::I);
        exponent = permute(load<V>(parents->exponent + from), index);
    }
    const V unit = power_of_two(-exponent);
    mean *= unit;
    variance *= unit * unit;

    // Without a bias the first state is W_hi's positive part times the input's plus the negative part times the
    // input's negative part, so its covariance is known exactly.
    const bool rank_one = !parents && order == 2 && !w.has_hidden_bias;
    V largest{};
    for (int i = 0; i < d; ++i) {
        const V wi = broadcast(w.W_hi[i]);
        V m = wi * mean + broadcast(w.b_h[i]) * unit;
        V v = wi * wi * variance;
        const std::ptrdiff_t diagonal = (order == 2 ? triangle(i, i) : i) * out.stride;
        if (parents) {
            m += permute(load<V>(parents->mean + i * parents->stride + from), index);
            v += permute(load<V>(parents->covariance + diagonal + from), index);
        }
        const Unit<V> u = rectify<T, V>(m, v);
        store(out.mean + i * out.stride + first, u.mean);
        store(out.covariance + diagonal + first, u.variance);
        largest = max(largest, max(u.mean * u.mean, u.variance));
        if (order == 2 && !rank_one) {
            hermite<T, V>(u, work.terms + i * hermite_terms);
            work.inverse[i] = u.inverse;
        }
    }
    if (rank_one) {
        const Unit<V> positive = rectify<T, V>(mean, variance), negative = rectify<T, V>(-mean, variance);
        const V cross = -positive.mean * negative.mean;
        for (int i = 1; i < d; ++i)
            for (int j = 0; j < i; ++j) {
                const T wi = w.W_hi[i], wj = w.W_hi[j];
                const V value = wi > 0 ? (wj > 0 ? positive.variance : cross) : (wj > 0 ? cross : negative.variance);
                const T size = wi * wj < 0 ? -wi * wj : wi * wj;
                store(out.covariance + triangle(i, j) * out.stride + first, broadcast(size) * value);
            }
    } else if (order == 2) {
        for (int i = 1; i < d; ++i) {
            const V* ci = work.terms + i * hermite_terms;
            const V c0 = ci[0], c1 = ci[1], c2 = ci[2], c3 = ci[3], c4 = ci[4], c5 = ci[5];
            const V inverse = work.inverse[i];
            const V input = broadcast(w.W_hi[i]) * variance;
            for (int j = 0; j < i; ++j) {
                const V* cj = work.terms + j * hermite_terms;
                V covariance = input * broadcast(w.W_hi[j]);
                if (parents)
                    covariance +=
                        permute(load<V>(parents->covariance + triangle(i, j) * parents->stride + from), index);
                const V rho = covariance * (inverse * work.inverse[j]);
                V p = c5 * cj[5];
                p = p * rho + c4 * cj[4];
                p = p * rho + c3 * cj[3];
                p = p * rho + c2 * cj[2];
                p = p * rho + c1 * cj[1];
                p = p * rho + c0 * cj[0];
                store(out.covariance + triangle(i, j) * out.stride + first, p * rho);
            }
        }
    }
    // Only relative size matters from here on, so states are kept near 1 and can neither overflow nor fade away.
    const T low = T(1) / (1 << 30), high = T(1 << 30);
    if (any((largest < broadcast(low)) | (largest > broadcast(high)))) {
        // A power of two, so nothing is rounded; a state that is zero stays as it is.
        V shift = exponent_of(max(largest, broadcast(L::tiny))) * T(0.5);
        shift = __builtin_convertvector(__builtin_convertvector(shift, typename L::I), V);
        shift = largest > V{} ? max(shift, broadcast(L::floor) - exponent) : V{};
        const V factor = power_of_two(-shift);
        const int entries = order == 2 ? static_cast<int>(triangle(d, 0)) : d;
        for (int i = 0; i < d; ++i) {
            T* p = out.mean + i * out.stride + first;
            store(p, load<V>(p) * factor);
        }
        for (int i = 0; i < entries; ++i) {
            T* p = out.covariance + i * out.stride + first;
            store(p, load<V>(p) * factor * factor);
        }
        exponent += shift;
    }
    store(out.exponent + first, exponent);
}

// Removes variable `index` (one per lane, >= k) of a normal law of variables k ... m - 1 held in mean and the lower
// triangle C: its mean, variance and covariances with the others are handed out, and variable k takes its place.
template <class T, class V>
OUTSAMPLE_INLINE void take(int k, int m, V index, V* mean, V* C, V& taken_mean, V& taken_variance, V* with) {
    taken_mean = mean[k];
    taken_variance = C[triangle(k, k)];
    for (int j = k + 1; j < m; ++j) with[j] = C[triangle(j, k)];
    for (int p = k + 1; p < m; ++p) {
        const auto here = index == broadcast(T(p));
        const V row_mean = mean[k], row_variance = C[triangle(k, k)];
        taken_mean = here ? mean[p] : taken_mean;
        taken_variance = here ? C[triangle(p, p)] : taken_variance;
        mean[p] = here ? row_mean : mean[p];
        C[triangle(p, p)] = here ? row_variance : C[triangle(p, p)];
        for (int j = k + 1; j < m; ++j) {
            if (j == p) continue;
            const V pj = C[symmetric(p, j)];
            with[j] = here ? pj : with[j];
        }
        // Variable k now stands at p: its covariance with p itself is what p's was with k.
        for (int j = k + 1; j < m; ++j) {
            if (j == p) continue;
            C[symmetric(p, j)] = here ? C[triangle(j, k)] : C[symmetric(p, j)];
        }
    }
}

// P(all variables of a normal law are positive) by Mendell and Elston's sequential conditioning, the most binding
// variable first. Variables k ... m - 1; destroys mean and C.
template <class T, class V>
V mendell_elston(int k, int m, V* mean, V* C, V* with) {
    typedef Lanes<T> L;
    V probability = broadcast(T(1));
    for (; k < m; ++k) {
        V best_mean = mean[k], best_variance = C[triangle(k, k)], index = broadcast(T(k));
        for (int j = k + 1; j < m; ++j) {
            const V vj = C[triangle(j, j)];
            const auto smaller =
                mean[j] * max(mean[j], -mean[j]) * best_variance < best_mean * max(best_mean, -best_mean) * vj;
            best_mean = smaller ? mean[j] : best_mean;
            best_variance = smaller ? vj : best_variance;
            index = smaller ? broadcast(T(j)) : index;
        }
        V pivot_mean, variance;
        take<T>(k, m, index, mean, C, pivot_mean, variance, with);
        const V inverse = reciprocal_sqrt(variance);
        const V a = min(max(pivot_mean * inverse, broadcast(-L::far)), broadcast(L::far));
        V density, mills;
        normal(a, density, mills);
        const V tail = density * mills;
        const V cdf = a > V{} ? T(1) - tail : tail;
        probability *= cdf;
        // E[U | U > -a]; for a < 0 it is 1 / mills, which stays exact where the tail underflows.
        const V hazard = (a > V{} ? density : broadcast(T(1))) * reciprocal(a > V{} ? cdf : mills);
        const V shrink = min(max(hazard * (hazard + a), V{}), broadcast(T(1)));
        for (int j = k + 1; j < m; ++j) {
            const V r = with[j] * inverse;
            mean[j] += r * hazard;
            const V scaled = r * shrink;
            for (int l = k + 1; l <= j; ++l) C[triangle(j, l)] -= scaled * (with[l] * inverse);
            C[triangle(j, j)] = max(C[triangle(j, j)], broadcast(L::tiny));
        }
    }
    return probability;
}

// Turns the law of the outputs (the first row and column of mean and C being 0) into that of the margins of the label's
// output over each other one, variables 1 ... m - 1.
template <class T, class V>
void margins(int m, const V& label, V* mean, V* C, V* with) {
    typedef Lanes<T> L;
    V label_mean, label_variance;
    take<T>(0, m, label, mean, C, label_mean, label_variance, with);
    for (int j = 1; j < m; ++j) {
        mean[j] = label_mean - mean[j];
        const V both = label_variance + C[triangle(j, j)];
        for (int l = 1; l <= j; ++l) C[triangle(j, l)] += label_variance - with[j] - with[l];
        // A margin that cannot vary is decided by its sign. A tie goes to the lowest position: variable j stands for
        // position j, or for position 0 where j is the label.
        const V v = C[triangle(j, j)];
        const auto fixed = v <= both * L::epsilon;
        C[triangle(j, j)] = max(fixed ? V{} : v, broadcast(L::tiny));
        const V tie = broadcast(T(j)) <= label ? broadcast(T(-1)) : broadcast(T(1));
        mean[j] = fixed & (mean[j] == V{}) ? tie : mean[j];
        for (int l = 1; l < j; ++l) C[triangle(j, l)] = fixed ? V{} : C[triangle(j, l)];
        // Rows below are still to come; their entry in this column is cleared there when this margin is fixed.
    }
    for (int j = 2; j < m; ++j)
        for (int l = 1; l < j; ++l) {
            const auto fixed = C[triangle(l, l)] <= broadcast(L::tiny);
            C[triangle(j, l)] = fixed ? V{} : C[triangle(j, l)];
        }
}

template <class T, class V>
void read_out(const PaddedNetwork<T>& w, const States<T>& s, int first, int order, const int* labels, V& value,
              V& variance, const Workspace<T>& work) {
    constexpr int count = Lanes<T>::count;
    const int m = w.outputs;
    T* mean_out = work.outside;
    T* covariance_out = work.outside + static_cast<std::ptrdiff_t>(m) * count;
    matvec<T, V>(w.W_oh, m, w.d, w.columns, s.mean + first, s.stride, mean_out, count);
    congruence<T, V>(w.W_oh, m, w.d, w.columns, s.covariance + first, s.stride, order == 1, work.product,
                     covariance_out, count);
    const V exponent = load<V>(s.exponent + first);
    const V unit = power_of_two(-exponent);
    V* mean = work.logits;
    V* with = mean + m;
    V* C = with + m;
    for (int o = 0; o < m; ++o) mean[o] = load<V>(mean_out + o * count) + broadcast(w.b_o[o]) * unit;
    for (int i = 0; i < static_cast<int>(triangle(m, 0)); ++i) C[i] = load<V>(covariance_out + i * count);
    if (!labels) {
        value = mean[0];
        variance = C[0];
        return;
    }
    V label;
    for (int lane = 0; lane < count; ++lane) label[lane] = static_cast<T>(labels[first + lane]);
    margins<T, V>(m, label, mean, C, with);
    value = mendell_elston<T, V>(1, m, mean, C, with);
}

template <class T>
void propagate_block(const PaddedNetwork<T>& w, const CellLevel* levels, const int* labels, int order, double* value,
                     double* variance, const StateMoments* states, T* scratch) {
    typedef typename Lanes<T>::V V;
    constexpr int count = Lanes<T>::count;
    const int d = w.d, n = w.n, m = w.outputs;
    const std::ptrdiff_t entries = order == 2 ? triangle(d, 0) : d;
    const std::ptrdiff_t stride = levels[n - 1].count + cell_padding;

    Workspace<T> work;
    V* vectors = reinterpret_cast<V*>(scratch);
    work.product = vectors;
    vectors += tile * w.columns;
    work.terms = vectors;
    vectors += hermite_terms * d;
    work.inverse = vectors;
    vectors += d;
    work.logits = vectors;
    vectors += 2 * m + triangle(m, 0);
    work.outside = reinterpret_cast<T*>(vectors);
    T* rest = work.outside + (m + triangle(m, 0)) * count;
    work.states = {rest, rest + d * stride, rest + (d + entries) * stride, stride};
    rest += (d + entries + 1) * stride;
    work.products = {rest, rest + d * stride, rest + (d + entries) * stride, stride};

    for (int t = 0; t < n; ++t) {
        if (t > 0)
            for (int first = 0; first < levels[t - 1].count; first += count)
                multiply<T, V>(w, work.states, work.products, first, order, work);
        for (int first = 0; first < levels[t].count; first += count)
            activate<T, V>(w, levels[t], t > 0 ? &work.products : nullptr, work.states, first, order, work);
        if (!states) continue;
        for (int cell = 0; cell < levels[t].count; ++cell) {
            const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(cell) * n + t;
            states->exponent[at] = static_cast<int>(work.states.exponent[cell]);
            for (int i = 0; i < d; ++i) {
                states->mean[at * d + i] = work.states.mean[i * stride + cell];
                if (order == 1) states->covariance[at * d + i] = work.states.covariance[i * stride + cell];
                for (int j = 0; order == 2 && j < d; ++j)
                    states->covariance[(at * d + i) * d + j] = work.states.covariance[symmetric(i, j) * stride + cell];
            }
        }
    }
    const States<T>& last = work.states;
    for (int first = 0; first < levels[n - 1].count; first += count) {
        V result, spread{};
        read_out<T, V>(w, last, first, order, labels, result, spread, work);
        for (int lane = 0; lane < count && first + lane < levels[n - 1].count; ++lane) {
            double scale = 1;
            if (!labels) scale = __builtin_ldexp(1.0, static_cast<int>(last.exponent[first + lane]));
            value[first + lane] = static_cast<double>(result[lane]) * scale;
            if (!labels) variance[first + lane] = static_cast<double>(spread[lane]) * scale * scale;
        }
    }
}

}  // namespace

void propagate_single(const PaddedNetwork<float>& network, const CellLevel* levels, const int* labels, int order,
                      double* value, double* variance, const StateMoments* states, float* scratch) {
    propagate_block<float>(network, levels, labels, order, value, variance, states, scratch);
}

void propagate_double(const PaddedNetwork<double>& network, const CellLevel* levels, const int* labels, int order,
                      double* value, double* variance, const StateMoments* states, double* scratch) {
    propagate_block<double>(network, levels, labels, order, value, variance, states, scratch);
}

}  // namespace outsample::OUTSAMPLE_ISA
