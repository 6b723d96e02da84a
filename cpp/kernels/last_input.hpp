// Exact integration over the last input, one sample per lane.
//
// Given the earlier inputs, unit k of the last step is relu(c_k + w_k y) with c = W_hh h_{n-1} + b_h: every logit is a
// piecewise linear function of the last input y with breakpoints at -c_k / w_k, and the right position changes at two
// of the earlier inputs. Between neighbouring breakpoints the answer is right on an intersection of half-lines, one per
// rival. All of that is walked from y = -last_range to y = last_range, every lane with its own order of breakpoints.
#pragma once

#include "label.hpp"
#include "layer.hpp"
#include "outsample/network.hpp"
#include "outsample/points.hpp"
#include "vmath.hpp"

namespace outsample::OUTSAMPLE_ISA {

// The last input is cut off at |y| = last_range: the 7e-6 of its probability beyond are taken to answer like the rest.
constexpr float last_range = 4.5f;
constexpr float probability_within = 0.9999932f;

// The walk is compiled for up to 8 units, up to 16, up to 32 where two registers hold as many entries to look up, and
// (0) for any number.
#if defined(__AVX512F__)
constexpr int widest_walk = 32;
#else
constexpr int widest_walk = 16;
#endif
constexpr int walk_width(int d) { return d > widest_walk ? 0 : d <= 8 ? 8 : d <= 16 ? 16 : 32; }
constexpr int walk_size(int d) { return walk_width(d) ? walk_width(d) : d; }

// Rows by unit have d entries, then zeros up to walk_size(d) + 2 at least.
constexpr int last_step_stride(int d) { return (walk_size(d) + 2 + 15) / 16 * 16; }

// What a unit does as the last input grows, by the sign of its weight (positive, negative, zero); units whose weights
// to all logits are equal do not matter.
enum class Unit : int { wakes, falls_asleep, constant, does_not_matter };

// Weights of the last step, laid out for the walk.
struct LastStep {
    int d, outputs;
    int stride;             // of rows by unit: last_step_stride(d), zeros behind d
    const float* W_hi;      // d
    const float* weights;   // outputs x d: W_oh
    const float* offset;    // outputs: b_o
    const float* jump;      // outputs x stride: W_oh |w|, what passing breakpoint k adds to a logit's slope
    const float* slope;     // outputs: slopes of the logits at y = -infinity
    const float* root;      // d: -1 / w_k, 0 where w_k = 0
    const Unit* kind;       // d
    int dead_answer;        // the answer where no unit that matters is active
    int comparators;        // of the sorting network over the keys, where the walk does not know it
    const int* comparator;  // comparators x 2
    int number_mask;        // low bits of a key, which hold the number of its breakpoint
};

// One truth value per lane. On AVX-512 a mask register: the compiler turns vector masks into those and back too often.
#if defined(__AVX512F__)
typedef __mmask16 vmask;
OUTSAMPLE_INLINE bool any(vmask a) { return a != 0; }
OUTSAMPLE_INLINE vmask both(vmask a, vmask b) { return _kand_mask16(a, b); }
OUTSAMPLE_INLINE vmask but_not(vmask a, vmask b) { return _kandn_mask16(b, a); }
OUTSAMPLE_INLINE vmask less(vfloat a, vfloat b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
OUTSAMPLE_INLINE vmask at_most(vfloat a, vfloat b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LE_OQ); }
OUTSAMPLE_INLINE vmask equal(vint a, vint b) { return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b); }
OUTSAMPLE_INLINE vmask greater(vint a, vint b) { return _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b); }
OUTSAMPLE_INLINE vmask has_bit(vint a, int bit) {
    return _mm512_test_epi32_mask((__m512i)a, _mm512_set1_epi32(1 << bit));
}
OUTSAMPLE_INLINE vfloat select(vmask m, vfloat a, vfloat b) {
    return (vfloat)_mm512_mask_mov_ps((__m512)b, m, (__m512)a);
}
OUTSAMPLE_INLINE vint select(vmask m, vint a, vint b) { return (vint)_mm512_mask_mov_epi32((__m512i)b, m, (__m512i)a); }
// Within 6e-5 of 1 / a, relative; infinite at 0.
OUTSAMPLE_INLINE vfloat reciprocal(vfloat a) { return (vfloat)_mm512_rcp14_ps((__m512)a); }
#else
typedef vint vmask;
OUTSAMPLE_INLINE vmask both(vmask a, vmask b) { return a & b; }
OUTSAMPLE_INLINE vmask but_not(vmask a, vmask b) { return a & ~b; }
OUTSAMPLE_INLINE vmask less(vfloat a, vfloat b) { return a < b; }
OUTSAMPLE_INLINE vmask at_most(vfloat a, vfloat b) { return a <= b; }
OUTSAMPLE_INLINE vmask equal(vint a, vint b) { return a == b; }
OUTSAMPLE_INLINE vmask greater(vint a, vint b) { return a > b; }
OUTSAMPLE_INLINE vmask has_bit(vint a, int bit) { return (a & (1 << bit)) != 0; }
OUTSAMPLE_INLINE vfloat select(vmask m, vfloat a, vfloat b) { return m ? a : b; }
OUTSAMPLE_INLINE vint select(vmask m, vint a, vint b) { return m ? a : b; }
OUTSAMPLE_INLINE vfloat reciprocal(vfloat a) { return 1.0f / a; }
#endif

OUTSAMPLE_INLINE int largest(vint a) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_epi32((__m512i)a);
#else
    int result = a[0];
    for (int lane = 1; lane < lanes; ++lane) result = a[lane] > result ? a[lane] : result;
    return result;
#endif
}

// Raises `low` or lowers `high` to the root of slope * y - deficit, whichever of the two it bounds. A deficit and a
// slope of zero (the label itself) bound nothing: 0 times infinity is not a number and fails both comparisons.
OUTSAMPLE_INLINE void intersect(vfloat deficit, vfloat slope, vfloat& low, vfloat& high) {
    const vfloat root = deficit * reciprocal(slope);
#if defined(__AVX512F__)
    const __mmask16 rises = _mm512_cmp_ps_mask((__m512)slope, _mm512_setzero_ps(), _CMP_GE_OQ);
    low = (vfloat)_mm512_mask_max_ps((__m512)low, rises, (__m512)root, (__m512)low);
    high = (vfloat)_mm512_mask_min_ps((__m512)high, (__mmask16)~rises, (__m512)root, (__m512)high);
#else
    const vint rises = slope >= 0.0f;
    low = (rises & (vint)(root > low)) ? root : low;
    high = (~rises & (vint)(root < high)) ? root : high;
#endif
}

// Entry number[lane] of a row by unit, 0 for numbers from Width on. Width 0: rows of any length.
template <int Width>
OUTSAMPLE_INLINE vfloat lookup(const float* row, vint number) {
#if defined(__AVX512F__)
    const __m512i index = (__m512i)number;
    const __mmask16 inside = _mm512_cmplt_epi32_mask(index, _mm512_set1_epi32(Width));
    if constexpr (Width == 8 || Width == 16)
        return (vfloat)_mm512_maskz_permutexvar_ps(inside, index, _mm512_loadu_ps(row));
    else if constexpr (Width == 32)
        return (vfloat)_mm512_maskz_permutex2var_ps(inside, _mm512_loadu_ps(row), index, _mm512_loadu_ps(row + 16));
    else
        return (vfloat)_mm512_i32gather_ps(index, row, 4);
#elif defined(__AVX2__)
    const __m256i index = (__m256i)number;
    const __m256 inside = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(Width), index));
    if constexpr (Width == 8) {
        return (vfloat)_mm256_and_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(row), index), inside);
    } else if constexpr (Width == 16) {
        const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(row), index);
        const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(row + 8), index);
        const __m256 entry = _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
        return (vfloat)_mm256_and_ps(entry, inside);
    } else {
        return (vfloat)_mm256_i32gather_ps(row, index, 4);
    }
#else
    vfloat result;
    for (int lane = 0; lane < lanes; ++lane) result[lane] = row[number[lane]];
    return result;
#endif
}

// Comparators of Batcher's merge exchange sort for any number of keys (Knuth, The Art of Computer Programming, volume
// 3, section 5.2.2, algorithm M), known at compile time.
template <int Keys>
struct SortingNetwork {
    int count = 0;
    int pair[Keys * Keys][2] = {};
    constexpr SortingNetwork() {
        for (int p = 1; p < Keys; p *= 2)
            for (int k = p; k >= 1; k /= 2)
                for (int j = k % p; j + k < Keys; j += 2 * k)
                    for (int i = 0; i < k && i + j + k < Keys; ++i)
                        if ((i + j) / (2 * p) == (i + j + k) / (2 * p)) {
                            pair[count][0] = i + j;
                            pair[count][1] = i + j + k;
                            ++count;
                        }
    }
};

OUTSAMPLE_INLINE void exchange(vfloat& a, vfloat& b) {
    const vfloat low = min(a, b);
    b = max(a, b);
    a = low;
}

template <int Keys>
constexpr SortingNetwork<Keys> sorting_network;

template <int Keys, int I = 0>
OUTSAMPLE_INLINE void sort_registers(vfloat* key) {
    constexpr const SortingNetwork<Keys>& network = sorting_network<Keys>;
    if constexpr (I < network.count) {
        exchange(key[network.pair[I][0]], key[network.pair[I][1]]);
        sort_registers<Keys, I + 1>(key);
    }
}

// Low bits of a key that hold the number of its breakpoint, known at compile time for most walks.
template <int Width>
OUTSAMPLE_INLINE int number_bits(const LastStep& step) {
    return Width == 8 ? 15 : Width == 16 ? 31 : Width == 32 ? 63 : step.number_mask;
}

// A place on the last input's line, with a number in its low bits, which moves it by 2e-6 of itself for d = 16.
OUTSAMPLE_INLINE vfloat numbered(int bits, vfloat at, int number) {
    return (vfloat)((((vint)at + (bits + 1) / 2) & ~bits) | number);
}

template <int Keys>
OUTSAMPLE_INLINE void sort_first(float* key) {
    vfloat in_register[Keys];
#pragma GCC unroll 18
    for (int k = 0; k < Keys; ++k) in_register[k] = load<vfloat>(key + k * lanes);
    sort_registers<Keys>(in_register);
#pragma GCC unroll 18
    for (int k = 0; k < Keys; ++k) store(key + k * lanes, in_register[k]);
}

// Sorts `count` keys of at most walk_size(d) + 2. Behind them goes `end`, up to the number that the next larger sorting
// network is made for, and once more.
template <int Width>
OUTSAMPLE_INLINE void sort_keys(const LastStep& step, float* key, int count, vfloat end) {
    constexpr int few = 8, some = Width == 8 ? 10 : 12, many = Width == 8 ? 10 : 18;
    const int all = (Width ? Width : step.d) + 2;
    const int length = !Width ? all : count <= few ? few : count <= some ? some : count <= many ? many : all;
    for (int k = count; k <= length; ++k) store(key + k * lanes, end);
    if (Width && length == few) return sort_first<few>(key);
    if (Width && length == some) return sort_first<some>(key);
    if (Width && length == many) return sort_first<many>(key);
    for (int i = 0; i < step.comparators; ++i) {
        float* a = key + step.comparator[2 * i] * lanes;
        float* b = key + step.comparator[2 * i + 1] * lanes;
        vfloat low = load<vfloat>(a), high = load<vfloat>(b);
        exchange(low, high);
        store(a, low);
        store(b, high);
    }
}

// Distribution function of the standard normal; absolute error 5e-7 (Abramowitz and Stegun 7.1.28).
OUTSAMPLE_INLINE vfloat normal_cdf(vfloat a) {
    const vfloat b = max(a, -a);
    vfloat p = 5.3797500e-6f * b + 4.8890602e-5f;
    p = p * b + 3.8003575e-5f;
    p = p * b + 3.2776263e-3f;
    p = p * b + 2.1141006e-2f;
    p = p * b + 4.9867347e-2f;
    p = p * b + 1.0f;
    p *= p;
    p *= p;
    p *= p;
    p *= p;
    const vfloat tail = 0.5f / p;
    return a < 0.0f ? tail : 1.0f - tail;
}

#if defined(__AVX512F__)
// The same less 1/2 on pieces of length 0.6 around the multiples of it, interpolated in Chebyshev's points:
// coefficients by power of the offset from a piece's middle, in units of its length. Absolute error 1.5e-6.
alignas(64) constexpr float normal_pieces[5][16] = {
    {0.0f, -0.49998665f, -0.49984089f, -0.4986501f, -0.49180245f, -0.46406969f, -0.38493034f, -0.22574688f, 0.0f,
     0.22574688f, 0.38493034f, 0.46406969f, 0.49180245f, 0.4986501f, 0.49984089f, 0.49998665f},
    {0.0f, 3.5207227e-05f, 0.00036641475f, 0.002657441f, 0.013436306f, 0.047376014f, 0.11652026f, 0.19993068f,
     0.23935042f, 0.19993068f, 0.11652026f, 0.047376014f, 0.013436306f, 0.002657441f, 0.00036641475f, 3.5207227e-05f},
    {0.0f, 4.4513596e-05f, 0.00039636422f, 0.0023931016f, 0.009675079f, 0.025581075f, 0.041943397f, 0.035985377f, 0.0f,
     -0.035985377f, -0.041943397f, -0.025581075f, -0.009675079f, -0.0023931016f, -0.00039636422f, -4.4513596e-05f},
    {0.0f, 3.7836835e-05f, 0.00027506813f, 0.00130311f, 0.0038442609f, 0.006271793f, 0.0029374796f, -0.0076121725f,
     -0.014122141f, -0.0076121725f, 0.0029374796f, 0.006271793f, 0.0038442609f, 0.00130311f, 0.00027506813f,
     3.7836835e-05f},
    {0.0f, 2.0327603e-05f, 0.00012085133f, 0.00043233417f, 0.00079077884f, 0.00016453596f, -0.0019503306f,
     -0.0028040416f, 0.0f, 0.0028040416f, 0.0019503306f, -0.00016453596f, -0.00079077884f, -0.00043233417f,
     -0.00012085133f, -2.0327603e-05f},
};
#endif

// Differences of it are those of the distribution function, for arguments within last_range.
OUTSAMPLE_INLINE vfloat shifted_normal_cdf(vfloat a) {
#if defined(__AVX512F__)
    const vfloat at = a * 1.6666f;  // a little below 5/3, so that last_range is in the last piece
    // Adding 1.5 x 2^23 rounds to the nearest integer, which then stands in the low bits; look-ups use four of them.
    const vfloat shifted = at + 12582920.0f;
    const __m512i piece = (__m512i)shifted;
    const vfloat offset = at - (shifted - 12582920.0f);
    vfloat p = (vfloat)_mm512_permutexvar_ps(piece, _mm512_load_ps(normal_pieces[4]));
#pragma GCC unroll 4
    for (int power = 3; power >= 0; --power)
        p = p * offset + (vfloat)_mm512_permutexvar_ps(piece, _mm512_load_ps(normal_pieces[power]));
    return p;
#else
    return normal_cdf(a);
#endif
}

// Quantile of the standard normal for p from 1e-30 to 1 - 6e-8; absolute error 4e-6. M. Giles, "Approximating the
// erfinv function", GPU Computing Gems Jade Edition (2011), chapter 10.
OUTSAMPLE_INLINE vfloat normal_quantile(vfloat p) {
    const vfloat w = -vlog(4.0f * p * (1.0f - p));
    vfloat t = w - 2.5f;
    vfloat centre = 2.81022636e-08f * t + 3.43273939e-07f;
    centre = centre * t - 3.5233877e-06f;
    centre = centre * t - 4.39150654e-06f;
    centre = centre * t + 0.00021858087f;
    centre = centre * t - 0.00125372503f;
    centre = centre * t - 0.00417768164f;
    centre = centre * t + 0.246640727f;
    centre = centre * t + 1.50140941f;
    t = vsqrt(max(w, vfloat{})) - 3.0f;
    vfloat tail = -0.000200214257f * t + 0.000100950558f;
    tail = tail * t + 0.00134934322f;
    tail = tail * t - 0.00367342844f;
    tail = tail * t + 0.00573950773f;
    tail = tail * t - 0.0076224613f;
    tail = tail * t + 0.00943887047f;
    tail = tail * t + 1.00167406f;
    tail = tail * t + 2.83297682f;
    return select(less(w, broadcast(5.0f)), centre, tail) * (1.41421356f * (2.0f * p - 1.0f));
}

// Which of N vectors to pick, lane by lane.
template <int N>
struct Choice {
    static constexpr int bits = N <= 1 ? 0 : N <= 2 ? 1 : N <= 4 ? 2 : N <= 8 ? 3 : 4;
    static_assert(N <= 16);
    vmask bit[bits + 1];
    __attribute__((always_inline)) explicit Choice(vint index) {
#pragma GCC unroll 4
        for (int b = 0; b < bits; ++b) bit[b] = has_bit(index, b);
    }
};

// v[index[lane]] by halving the candidates, bit by bit of the index.
template <int N, int Bit = 0>
OUTSAMPLE_INLINE vfloat pick(const vfloat* v, const vmask* bit) {
    if constexpr (N == 1) {
        return v[0];
    } else {
        vfloat half[(N + 1) / 2];
#pragma GCC unroll 16
        for (int i = 0; i + 1 < N; i += 2) half[i / 2] = select(bit[Bit], v[i + 1], v[i]);
        if constexpr (N % 2) half[N / 2] = v[N - 1];
        return pick<(N + 1) / 2, Bit + 1>(half, bit);
    }
}

#define OUTSAMPLE_UNROLL _Pragma("GCC unroll 16")

// One vector per logit: in registers if their number is known at compile time, else in memory.
template <int N>
struct Vectors {
    vfloat v[N];
    __attribute__((always_inline)) explicit Vectors(float*) {}
    __attribute__((always_inline)) vfloat get(int o) const { return v[o]; }
    __attribute__((always_inline)) void set(int o, vfloat a) { v[o] = a; }
};
template <>
struct Vectors<0> {
    float* p;
    __attribute__((always_inline)) explicit Vectors(float* memory) : p(memory) {}
    __attribute__((always_inline)) vfloat get(int o) const { return load<vfloat>(p + o * lanes); }
    __attribute__((always_inline)) void set(int o, vfloat a) { store(p + o * lanes, a); }
};

// Adds up the probabilities of pieces of the last input's line.
#if defined(__AVX512F__)
// Each piece waits for the next one, so that its distribution functions are computed beside that one's roots.
class Pieces {
  public:
    __attribute__((always_inline)) explicit Pieces(float*) {}
    __attribute__((always_inline)) void add(vfloat from, vfloat to) {
        total_ = total();
        from_ = from;
        to_ = to;
    }
    __attribute__((always_inline)) vfloat total() const {
        return total_ + (shifted_normal_cdf(to_) - shifted_normal_cdf(from_));
    }

  private:
    vfloat total_{}, from_{}, to_{};
};
#else
// All pieces wait for the end: registers are few, and the constants of the distribution function would take many.
class Pieces {
  public:
    __attribute__((always_inline)) explicit Pieces(float* memory) : memory_(memory) {}
    __attribute__((always_inline)) void add(vfloat from, vfloat to) {
        store(memory_ + 2 * count_ * lanes, from);
        store(memory_ + (2 * count_ + 1) * lanes, to);
        ++count_;
    }
    __attribute__((always_inline)) vfloat total() const {
        vfloat total{};
        for (int i = 0; i < count_; ++i)
            total += shifted_normal_cdf(load<vfloat>(memory_ + (2 * i + 1) * lanes)) -
                     shifted_normal_cdf(load<vfloat>(memory_ + 2 * i * lanes));
        return total;
    }

  private:
    float* memory_;
    int count_ = 0;
};
#endif

// Probability over a standard normal last input that the answer is right.
//
// c: the last step's pre-activations without the last input; start: the logits at y = -last_range; both `block` floats
// apart. The right position is before_label for y < before, the last one for before < y < after, after_label for
// y > after; before <= after. walked grows, lane by lane, by the number of intervals times count_me (0 or 1).
// work: room for (3 (walk_size(d) + 3) + 2 outputs) vectors.
//
// N: the number of logits, or 0; Full: whether d is Width.
template <int Width, int N, bool Full>
vfloat right_probability(const LastStep& step, const float* c, const float* start, vfloat before, vfloat after,
                         vint before_label, vint after_label, vint count_me, vint& walked, float* work) {
    const int d = Full ? Width : step.d, outputs = N ? N : step.outputs, size = Width ? Width : d;
    const int stride = step.stride;
    const vfloat bottom = broadcast(-last_range), top = broadcast(last_range);
    const int bits_of_number = number_bits<Width>(step);
    const vint number_mask = broadcast(bits_of_number), place_mask = ~number_mask;
    float* key = work;
    Pieces pieces(key + (size + 3) * lanes);
    float* lines = key + 3 * (size + 3) * lanes;
    Vectors<N> logit(lines), slope(lines + outputs * lanes);
    OUTSAMPLE_UNROLL
    for (int o = 0; o < outputs; ++o) {
        logit.set(o, load<vfloat>(start + o * block));
        slope.set(o, broadcast(step.slope[o]));
    }

    // Breakpoints that some lane has within range become keys. Between the places asleep_from and asleep_to, if they
    // are in order, no unit that matters is active.
    int keys = 0;
    vint in_range{};  // breakpoints, lane by lane
    const auto add_key = [&](vmask within, vfloat at, int number) __attribute__((always_inline)) {
        store(key + keys * lanes, numbered(bits_of_number, select(within, at, top), number));
        keys += any(within);
        in_range = select(within, in_range + 1, in_range);
    };
    vfloat asleep_from = bottom, asleep_to = top;
    const float* root = step.root;  // read once: the compiler cannot tell that writing keys leaves it alone
    const Unit* kind = step.kind;
    for (int k = 0; k < d; ++k) {
        const vfloat ck = load<vfloat>(c + k * block);
        const vfloat at = ck * broadcast(root[k]);
        const vmask passed = at_most(at, bottom);
        add_key(but_not(less(at, top), passed), at, k);
        if (any(passed)) {
            OUTSAMPLE_UNROLL
            for (int o = 0; o < outputs; ++o)
                slope.set(o, select(passed, slope.get(o) + broadcast(step.jump[o * stride + k]), slope.get(o)));
        }
        if (kind[k] == Unit::wakes)
            asleep_to = min(asleep_to, at);
        else if (kind[k] == Unit::falls_asleep)
            asleep_from = max(asleep_from, at);
        else if (kind[k] == Unit::constant)
            asleep_to = select(less(vfloat{}, ck), bottom, asleep_to);
    }
    const bool some_sleep = any(less(asleep_from, asleep_to));
    before = min(max(before, bottom), top);
    after = min(max(after, bottom), top);
    add_key(both(less(bottom, before), less(before, top)), before, size);
    add_key(both(less(bottom, after), less(after, top)), after, size + 1);
    const vfloat before_place = numbered(bits_of_number, before, 0);
    const vfloat after_place = numbered(bits_of_number, after, 0);

    // Counted beforehand: a branch on lengths inside the walk would be known too late, and no processor can guess it.
    const int last = largest(in_range);
    walked += (in_range + 1) & -count_me;
    sort_keys<Width>(step, key, keys, top);

    const auto label_from = [&](vfloat from) __attribute__((always_inline)) {
        const vint label = select(less(from, before_place), before_label, broadcast(outputs - 1));
        return select(less(from, after_place), label, after_label);
    };
    vfloat place = bottom;
    vint next_label = label_from(place);
    Choice<N> choice(next_label);
    for (int i = 0; i <= last; ++i) {
        const vint bits = load<vint>(key + i * lanes);
        const vfloat next = (vfloat)(bits & place_mask);
        const vint number = bits & number_mask;
        const vfloat length = next - place;
        const vint label = next_label;
        vfloat right, right_slope;
        if constexpr (N != 0) {
            right = pick<N>(logit.v, choice.bit);
            right_slope = pick<N>(slope.v, choice.bit);
        } else {
            right = right_slope = vfloat{};
            for (int o = 0; o < outputs; ++o) {
                const vmask mine = equal(label, broadcast(o));
                right = select(mine, logit.get(o), right);
                right_slope = select(mine, slope.get(o), right_slope);
            }
        }
        // Here rather than when it is needed, since all else waits for it.
        next_label = label_from(next);
        choice = Choice<N>(next_label);
        vfloat low{}, high = length;
        OUTSAMPLE_UNROLL
        for (int o = 0; o < outputs; ++o) {
            intersect(logit.get(o) - right, right_slope - slope.get(o), low, high);
            logit.set(o, logit.get(o) + slope.get(o) * length);
            slope.set(o, slope.get(o) + lookup<Width>(step.jump + o * stride, number));
        }
        if (some_sleep) {
            const vfloat middle = place + 0.5f * length;
            const vmask asleep = both(less(asleep_from, middle), less(middle, asleep_to));
            const vmask answered = equal(label, broadcast(step.dead_answer));
            low = select(asleep, vfloat{}, low);
            high = select(asleep, select(answered, length, broadcast(-1.0f)), high);
        }
        high = max(high, vfloat{});  // no length instead of a negative one
        pieces.add(place + min(low, high), place + high);
        place = next;
    }
    return pieces.total() * (1.0f / probability_within);
}

// The same from last_values values of the last input, at the share u of as many parts of equal probability: unbiased if
// u is uniform on (0, 1). u: at most 1 - 2^-20. h, logits: blocks of d and of outputs rows.
template <int D>
OUTSAMPLE_INLINE vfloat right_share(const LastStep& step, const float* c, vfloat u, vfloat before, vfloat after,
                                    vint before_label, vint after_label, float* h, float* logits) {
    vfloat right{};
    for (int first = 0; first < last_values; first += width) {
        vint label[width];
        for (int v = 0; v < width; ++v) {
            const vfloat y = normal_quantile((u + static_cast<float>(first + v)) * (1.0f / last_values));
            label[v] = select(less(y, before), before_label, broadcast(step.outputs - 1));
            label[v] = select(less(y, after), label[v], after_label);
            for (int k = 0; k < step.d; ++k)
                store(h + k * block + v * lanes, relu(load<vfloat>(c + k * block) + broadcast(step.W_hi[k]) * y));
        }
        layer<D, false>(step.outputs, step.d, step.weights, h, nullptr, nullptr, step.offset, logits);
        for (int v = 0; v < width; ++v)
            right += select(equal(argmax(logits + v * lanes, step.outputs, block), label[v]),
                            broadcast(1.0f / last_values), vfloat{});
    }
    return right;
}

// How many intervals may be walked for the samples that are left. Every sample is promised its last values at least.
struct Allowance {
    std::int64_t intervals, samples;
    std::int64_t most, values;  // intervals of a sample, and of its last values

    // Whether the next `count` samples may be walked, whatever they take.
    __attribute__((always_inline)) bool walk(std::int64_t count) const {
        return intervals - count * most >= (samples - count) * values;
    }
    __attribute__((always_inline)) void spend(std::int64_t count, std::int64_t walked) {
        samples -= count;
        intervals -= walked;
    }
};

}  // namespace outsample::OUTSAMPLE_ISA
