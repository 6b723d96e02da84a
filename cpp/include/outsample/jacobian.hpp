// Products with the derivatives of cubature estimates, what the conjugate gradients of a Gauss-Newton step spend their
// time on.
//
// An estimate's derivative with respect to the linear readout are the features of the network, that with respect to the
// weights of a hidden unit are the features times the slope of that unit, so features are kept once.
#pragma once

#include <cstdint>
#include <vector>

#include "outsample/aligned.hpp"
#include "outsample/isa.hpp"

namespace outsample {

// What one network is kept as: words of two bfloat16 each, features first, then derivatives with respect to the inputs.
// Word i of chunk c holds columns 32 c + i (low half) and 32 c + 16 + i (high half); both parts are filled up with
// zeros to whole chunks. bfloat16 because the products wait for memory: rounding adds some 1e-6 of the curvature.
struct JacobianView {
    int units;
    int feature_chunks, input_chunks;
    std::int64_t stride;         // words from one network to the next
    const std::uint32_t* words;  // networks x stride
    const float* g;              // networks x units: outputs of the hidden units
    const float* slope;          // networks x units: derivatives with respect to their biases
    const float* root;           // networks: root of what each counts by
};

// Vectors of parameters as the kernels take them: all arrays filled up to whole chunks.
struct JacobianVector {
    float intercept;
    float *out, *bias;  // units
    float* features;    // (1 + units) x 32 feature_chunks: linear readout, hidden units
    float* inputs;      // 32 input_chunks
};

constexpr int jacobian_chunk = 32;
constexpr int jacobian_networks = 4;  // numbers of networks are filled up to multiples of this

// Derivatives of some networks' estimates, owned.
class Jacobian {
  public:
    // features: features x networks; inputs: inputs x networks; g, slope: units x networks; root: networks.
    Jacobian(int networks, int features, int inputs, int units, const float* phi, const float* tangent, const float* g,
             const float* slope, const float* root);

    int networks() const { return networks_; }
    // Intercept, linear readout, out, bias, hidden (units x features), inputs.
    std::int64_t parameters() const { return 1 + features_ + units_ * (2 + std::int64_t(features_)) + inputs_; }

    // J' v, where J are the derivatives times the roots and v has one entry per network.
    void transposed(const float* v, float* result) const;
    // J' J v.
    void normal(const float* v, float* result) const;

  private:
    void product(const float* along, const float* v, float* result) const;

    int networks_, features_, inputs_, units_;
    std::int64_t stride_;
    AlignedVector<std::uint32_t> words_;
    std::vector<float> g_, slope_, root_;
};

// Adds J' v of the networks from `first` on (a multiple of jacobian_networks of them) to `result`. v is J times `along`
// if that is not null, else `v`. scratch: networks x (2 + units).
OUTSAMPLE_DECLARE_KERNEL(void, jacobian_product,
                         (const JacobianView& view, int first, int networks, const JacobianVector* along,
                          const float* v, float* scratch, JacobianVector& result))

}  // namespace outsample
