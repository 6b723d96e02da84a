// Features of what a network does at a point, and their derivatives; a network or a point per lane.
#pragma once

#include "outsample/cubature.hpp"
#include "vmath.hpp"

namespace outsample::OUTSAMPLE_ISA {

OUTSAMPLE_INLINE vfloat select(vint mask, vfloat a, vfloat b) { return mask ? a : b; }
OUTSAMPLE_INLINE vint select(vint mask, vint a, vint b) { return mask ? a : b; }

// Of networks, one entry per leaf serves all lanes; of points, every lane has its own.
template <bool networks>
OUTSAMPLE_INLINE vfloat value_at(const float* v, std::int64_t index) {
    if constexpr (networks)
        return broadcast(v[index]);
    else
        return load<vfloat>(v + index * lanes);
}

// What features are made from: the right answer's logit, and how far it is above the best and the second-best other
// one. With one output the output is all there is.
struct Signals {
    vfloat own, margin, runner_up;
    vint best, second;  // which the other two are; set if `which`
};

// target: one per lane, or one for all.
template <bool which, class Target>
OUTSAMPLE_INLINE Signals signals_of(int outputs, Target target, const float* logits) {
    Signals s{};
    if (outputs == 1) {
        s.own = s.margin = load<vfloat>(logits);
        return s;
    }
    const vfloat nothing = broadcast(-3.0e38f);
    vfloat best = nothing, second = nothing;
    s.own = nothing;
    for (int o = 0; o < outputs; ++o) {
        const vfloat value = load<vfloat>(logits + o * lanes);
        const vint is_target = (target - vint{}) == o;
        s.own = select(is_target, value, s.own);
        const vfloat other = select(is_target, nothing, value);
        if constexpr (which) {
            const vint first = other > best, next = other > second;
            s.second = first ? s.best : next ? o - vint{} : s.second;
            s.best = first ? o - vint{} : s.best;
        }
        second = max(second, min(best, other));
        best = max(best, other);
    }
    s.margin = s.own - best;
    s.runner_up = s.own - second;
    return s;
}

// 2 / a for a >= 1, within a few units in the last place.
OUTSAMPLE_INLINE vfloat twice_inverse(vfloat a) {
#if defined(__AVX512F__)
    // A division takes as long as the rest of a feature: 14 bits, and a Newton step.
    const vfloat r = (vfloat)_mm512_rcp14_ps((__m512)a);
    return (r + r) * (2.0f - a * r);
#else
    return broadcast(2.0f) / a;
#endif
}

// tanh(a / 2) from exp(a).
OUTSAMPLE_INLINE vfloat half_tanh(vfloat e) { return broadcast(1.0f) - twice_inverse(e + broadcast(1.0f)); }

// tanh to an absolute error of about 3e-7, which is what readouts need.
OUTSAMPLE_INLINE vfloat tanh_of(vfloat a) { return half_tanh(vexp(a + a)); }

// tanh(z / 2), tanh(3 z / 2), tanh(9 z / 2) from one exponential.
OUTSAMPLE_INLINE void three_tanh(vfloat z, vfloat* feature) {
    const vfloat e = vexp(z);
    // exp(z) for z held within 9, where the second and third are 1 in float32: the ninth power must stay finite.
    const vfloat held = min(max(e, broadcast(1.2340980e-4f)), broadcast(8103.0839f)), cube = held * held * held;
    feature[0] = half_tanh(e);
    feature[1] = half_tanh(cube);
    feature[2] = half_tanh(cube * cube * cube);
}

// Fills view.count features. margin: the margin, divided already by its mean size if the features are relative.
template <bool networks>
OUTSAMPLE_INLINE void features_of(const FeatureView& view, std::int64_t leaf, vfloat margin, const Signals& s,
                                  vfloat* feature) {
    if (view.kind == FeatureKind::powers) {
        const vfloat z = (s.own - value_at<networks>(view.shift, leaf)) * value_at<networks>(view.inverse_scale, leaf);
        feature[0] = z;
        feature[1] = z * z;
        feature[2] = tanh_of(z);
        return;
    }
    const std::int64_t first = leaf * view.signals;
    three_tanh(margin * value_at<networks>(view.inverse_scale, first), feature);
    if (view.count == 3) return;
    const vfloat own = s.own - value_at<networks>(view.shift, leaf);
    feature[3] = tanh_of(own * value_at<networks>(view.inverse_scale, first + 1));
    feature[4] = tanh_of(s.runner_up * value_at<networks>(view.inverse_scale, first + 2));
    if (view.count == 5) return;
    feature[5] = feature[0] * feature[0];
    feature[6] = feature[1] * feature[1];
}

// Derivatives of the sum of c[k] feature[k] with respect to the margin, the own logit as such, and the runner-up's.
OUTSAMPLE_INLINE void feature_slopes(const FeatureView& view, std::int64_t leaf, const vfloat* feature, const vfloat* c,
                                     vfloat& margin, vfloat& own, vfloat& runner_up) {
    const auto falls = [&](int k) { return broadcast(1.0f) - feature[k] * feature[k]; };  // of tanh
    const auto scale = [&](int k) { return broadcast(view.inverse_scale[leaf * view.signals + k]); };
    margin = own = runner_up = vfloat{};
    if (view.kind == FeatureKind::powers) {
        own = scale(0) * (c[0] + c[1] * (feature[0] + feature[0]) + c[2] * falls(2));
        return;
    }
    vfloat first = c[0], second = c[1];
    if (view.count == 7) {
        first += c[5] * (feature[0] + feature[0]);
        second += c[6] * (feature[1] + feature[1]);
    }
    margin = scale(0) * (0.5f * first * falls(0) + 1.5f * second * falls(1) + 4.5f * c[2] * falls(2));
    if (view.count == 3) return;
    own = scale(1) * c[3] * falls(3);
    runner_up = scale(2) * c[4] * falls(4);
}

}  // namespace outsample::OUTSAMPLE_ISA
