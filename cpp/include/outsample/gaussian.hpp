// Exact functions of normal distributions, float64, one value at a time.
#pragma once

#include <cstdint>

namespace outsample {

double normal_cdf(double x);
double normal_quantile(double p);  // of p in [0, 1]; -inf and inf at the ends

// P(X <= h, Y <= k) for standard normals with correlation rho in [-1, 1]; absolute error below 1e-14.
double bivariate_normal_cdf(double h, double k, double rho);

struct Moments {
    double mean, variance;
};

// Of max(Z, 0) for Z ~ N(mean, variance), variance >= 0.
Moments relu_moments(double mean, double variance);

// Mean (d) and covariance (d x d) of max(Z, 0) for Z ~ N(mean, covariance).
void relu_covariance(int d, const double* mean, const double* covariance, double* mean_out, double* covariance_out);

struct TruncatedMoments {
    double probability, mean, variance;
};

// Of Z ~ N(mean, variance) given lower < Z < upper; either end may be infinite.
TruncatedMoments truncated_normal_moments(double mean, double variance, double lower, double upper);

// Of Z ~ N(mean, covariance) given normal . Z > offset: returns the probability of that, fills mean_out and
// covariance_out.
double condition_on_half_space(int d, const double* mean, const double* covariance, const double* normal, double offset,
                               double* mean_out, double* covariance_out);

struct Probability {
    double value, error;
};

// P(Z > 0 in every coordinate) for Z ~ N(mean, covariance). Genz's method: exact up to two dimensions, otherwise a
// lattice rule whose error is four standard errors over fixed shifts; it stops at `tolerance` or at max_points.
Probability orthant_genz(int d, const double* mean, const double* covariance, double tolerance,
                         std::int64_t max_points);

// The same by Mendell and Elston's sequential conditioning: fast, approximate, exact for independent coordinates.
double orthant_mendell_elston(int d, const double* mean, const double* covariance);

}  // namespace outsample
