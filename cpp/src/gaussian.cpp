#include "outsample/gaussian.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace outsample {

namespace {

constexpr double pi = 3.14159265358979323846;
constexpr double inf = std::numeric_limits<double>::infinity();

double density(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2 * pi); }

// (1 - Phi(x)) / phi(x) for x >= 0, to about 1e-15 of its value.
double mills_ratio(double x) {
    if (x < 2) return 0.5 * std::erfc(x / std::sqrt(2.0)) / density(x);
    // Laplace's continued fraction, from the tail; slowest at x = 2.
    double fraction = x;
    for (int k = static_cast<int>(20 + 600 / (x * x)); k > 0; --k) fraction = x + k / fraction;
    return 1 / fraction;
}

// Gauss and Legendre's rule on [-1, 1].
constexpr int nodes = 20;
struct Legendre {
    double x[nodes], w[nodes];
    Legendre() {
        for (int i = 0; i < nodes; ++i) {
            double z = std::cos(pi * (i + 0.75) / (nodes + 0.5)), slope = 0;
            for (int step = 0; step < 8; ++step) {
                double p = 1, before = 0;
                for (int k = 0; k < nodes; ++k) {
                    const double next = ((2 * k + 1) * z * p - k * before) / (k + 1);
                    before = p;
                    p = next;
                }
                slope = nodes * (z * p - before) / (z * z - 1);
                z -= p / slope;
            }
            x[i] = z;
            w[i] = 2 / ((1 - z * z) * slope * slope);
        }
    }
};
const Legendre& legendre() {
    static const Legendre rule;
    return rule;
}

// E max(x + U, 0) for a standard normal U.
double expected_relu(double x) {
    const double r = density(x) * (1 - std::abs(x) * mills_ratio(std::abs(x)));
    return std::max(x, 0.0) + r;
}

// Phi(difference / scale), where at scale 0 only the sign is left and a tie counts as one half.
double cdf_of_ratio(double difference, double scale) {
    if (scale > 0) return normal_cdf(difference / scale);
    return difference > 0 ? 1 : difference < 0 ? 0 : 0.5;
}

// Covariance of max(a + U, 0) and max(b + V, 0) for standard normals with correlation rho.
double standard_relu_covariance(double a, double b, double rho) {
    // max(z, 0) = z + max(-z, 0) brings both means to the negative side, where nothing large cancels.
    if (a > 0 && b > 0) return rho * (1 - normal_cdf(-a) - normal_cdf(-b)) + standard_relu_covariance(-a, -b, rho);
    if (a > 0) return rho * normal_cdf(b) + standard_relu_covariance(-a, b, -rho);
    if (b > 0) return rho * normal_cdf(a) + standard_relu_covariance(a, -b, -rho);
    const double squared = std::max((1 - rho) * (1 + rho), 0.0), q = std::sqrt(squared);
    const double exponent = (a - rho * b) * (a - rho * b) + b * b * squared;
    const double peak = q > 0 ? q / (2 * pi) * std::exp(-exponent / (2 * squared)) : 0;
    return (a * b + rho) * bivariate_normal_cdf(a, b, rho) + a * density(b) * cdf_of_ratio(a - rho * b, q) +
           b * density(a) * cdf_of_ratio(b - rho * a, q) + peak - expected_relu(a) * expected_relu(b);
}

double correlation(double covariance, double deviation_i, double deviation_j) {
    return std::min(1.0, std::max(-1.0, covariance / deviation_i / deviation_j));
}

// A hash with good mixing (splitmix64): where the fixed shifts of the lattice rule come from.
double hashed(std::uint64_t i) {
    i += 0x9e3779b97f4a7c15u;
    i = (i ^ (i >> 30)) * 0xbf58476d1ce4e5b9u;
    i = (i ^ (i >> 27)) * 0x94d049bb133111ebu;
    return static_cast<double>((i ^ (i >> 31)) >> 11) * 0x1p-53;
}

std::vector<double> root_primes(int count) {
    std::vector<double> result;
    for (int candidate = 2; static_cast<int>(result.size()) < count; ++candidate) {
        bool prime = true;
        for (int k = 2; k * k <= candidate; ++k) prime = prime && candidate % k;
        if (prime) result.push_back(std::sqrt(candidate));
    }
    return result;
}

// Cholesky factor of a correlation matrix with the variables in the order in which they bind most, and their limits.
struct Ordered {
    int d;
    std::vector<double> factor, limit;  // row-major lower triangle, full square; limits in units of the diagonal
};

Ordered order_variables(int d, const double* mean, const double* covariance) {
    Ordered o{d, std::vector<double>(d * d), std::vector<double>(d)};
    std::vector<int> position(d);
    std::iota(position.begin(), position.end(), 0);
    std::vector<double> scale(d), expected(d);
    for (int i = 0; i < d; ++i) scale[i] = std::sqrt(covariance[i * d + i]);
    std::vector<double>& L = o.factor;
    auto limit_of = [&](int variable) {
        if (scale[variable] > 0) return mean[variable] / scale[variable];
        return mean[variable] > 0 ? inf : -inf;  // a coordinate that cannot vary; 0 is not positive
    };
    for (int k = 0; k < d; ++k) {
        int best = k;
        double best_limit = inf, best_diagonal = 0;
        for (int i = k; i < d; ++i) {
            double squared = 1, shift = 0;
            for (int j = 0; j < k; ++j) {
                squared -= L[i * d + j] * L[i * d + j];
                shift += L[i * d + j] * expected[j];
            }
            const double diagonal = squared > 1e-14 ? std::sqrt(squared) : 0;
            const double rest = limit_of(position[i]) - shift;
            const double limit = diagonal > 0 ? rest / diagonal : rest >= 0 ? inf : -inf;
            if (i == k || limit < best_limit) {
                best = i;
                best_limit = limit;
                best_diagonal = diagonal;
            }
        }
        std::swap(position[k], position[best]);
        for (int j = 0; j < k; ++j) std::swap(L[k * d + j], L[best * d + j]);
        L[k * d + k] = best_diagonal;
        const int pk = position[k];
        for (int i = k + 1; i < d; ++i) {
            const int pi_ = position[i];
            double sum =
                scale[pi_] > 0 && scale[pk] > 0 ? correlation(covariance[pi_ * d + pk], scale[pi_], scale[pk]) : 0;
            for (int j = 0; j < k; ++j) sum -= L[i * d + j] * L[k * d + j];
            L[i * d + k] = best_diagonal > 0 ? sum / best_diagonal : 0;
        }
        o.limit[k] = limit_of(pk);
        expected[k] = std::isfinite(best_limit) ? -(best_limit > 0 ? density(best_limit) / normal_cdf(best_limit)
                                                                   : 1 / mills_ratio(-best_limit))
                                                : 0;
    }
    return o;
}

// Genz's transformed integrand at a point of the unit cube of d - 1 dimensions.
double integrand(const Ordered& o, const double* u, double* y) {
    double product = 1;
    for (int i = 0; i < o.d; ++i) {
        double shift = 0;
        for (int j = 0; j < i; ++j) shift += o.factor[i * o.d + j] * y[j];
        const double diagonal = o.factor[i * o.d + i], rest = o.limit[i] - shift;
        const double e = diagonal > 0 ? normal_cdf(rest / diagonal) : rest >= 0 ? 1 : 0;
        product *= e;
        if (product == 0) return 0;
        if (i + 1 < o.d) y[i] = diagonal > 0 ? std::min(std::max(normal_quantile(u[i] * e), -40.0), 40.0) : 0;
    }
    return product;
}

}  // namespace

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

double normal_quantile(double p) {
    if (!(p > 0)) return p == 0 ? -inf : std::numeric_limits<double>::quiet_NaN();
    if (!(p < 1)) return p == 1 ? inf : std::numeric_limits<double>::quiet_NaN();
    if (p > 0.5 && p > 1 - 0x1p-30) return -normal_quantile(1 - p);
    // A start of Acklam's kind (relative error 1e-9), then one step of Halley's method.
    static const double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                               1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
    static const double b[] = {-5.447609879822406e+01, 1.615858368580409e+02,  -1.556989798598866e+02,
                               6.680131188771972e+01,  -1.328068155288572e+01, 1};
    static const double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                               -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
    static const double e[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                               3.754408661907416e+00, 1};
    auto polynomial = [](const double* coefficients, int count, double x) {
        double sum = 0;
        for (int i = 0; i < count; ++i) sum = sum * x + coefficients[i];
        return sum;
    };
    const double low = 0.02425;
    double x;
    if (p < low || p > 1 - low) {
        const double q = std::sqrt(-2 * std::log(p < low ? p : 1 - p));
        x = polynomial(c, 6, q) / polynomial(e, 5, q);
        if (p > low) x = -x;
    } else {
        const double q = p - 0.5, r = q * q;
        x = q * polynomial(a, 6, r) / polynomial(b, 6, r);
    }
    const double error = p < 0.5 ? normal_cdf(x) - p : (1 - p) - normal_cdf(-x);
    const double step = error * std::sqrt(2 * pi) * std::exp(0.5 * x * x);
    return x - step / (1 + 0.5 * x * step);
}

// A. Genz, "Numerical computation of rectangular bivariate and trivariate normal and t probabilities", Statistics and
// Computing 14 (2004), section 2: Drezner and Wesolowsky's integral over the correlation, and near |rho| = 1 the
// distance to the singular case with the leading terms of the integrand taken out.
double bivariate_normal_cdf(double h, double k, double rho) {
    if (h == -inf || k == -inf) return 0;
    if (h == inf) return normal_cdf(k);
    if (k == inf) return normal_cdf(h);
    const Legendre& rule = legendre();
    if (std::abs(rho) < 0.925) {
        const double angle = std::asin(rho), squares = (h * h + k * k) / 2, product = h * k;
        double sum = 0;
        for (int i = 0; i < nodes; ++i) {
            const double s = std::sin(angle * (rule.x[i] + 1) / 2);
            sum += rule.w[i] * std::exp((s * product - squares) / (1 - s * s));
        }
        return std::max(0.0, sum * angle / (4 * pi) + normal_cdf(h) * normal_cdf(k));
    }
    // In upper tails from here on: P(X > x, Y > y).
    const double x = -h, y = rho < 0 ? k : -k, product = x * y;
    double sum = 0;
    if (std::abs(rho) < 1) {
        const double squared = (1 - rho) * (1 + rho), gap = (x - y) * (x - y);
        const double c = (4 - product) / 8, e = (12 - product) / 16;
        double q = std::sqrt(squared);
        const double exponent = -(gap / squared + product) / 2;
        if (exponent > -700)
            sum = q * std::exp(exponent) *
                  (1 - c * (gap - squared) * (1 - e * gap / 5) / 3 + c * e * squared * squared / 5);
        if (product > -700) {
            const double b = std::sqrt(gap);
            sum -= std::exp(-product / 2) * std::sqrt(2 * pi) * normal_cdf(-b / q) * b *
                   (1 - c * gap * (1 - e * gap / 5) / 3);
        }
        q /= 2;
        for (int i = 0; i < nodes; ++i) {
            const double z = q * (rule.x[i] + 1), zz = z * z;
            const double root = std::sqrt(1 - zz), power = -(gap / zz + product) / 2;
            if (power > -700)
                sum += q * rule.w[i] * std::exp(power) *
                       (std::exp(-product * zz / (2 * (1 + root) * (1 + root))) / root - (1 + c * zz * (1 + e * zz)));
        }
        sum /= -2 * pi;
    }
    const double result =
        rho > 0 ? sum + normal_cdf(-std::max(x, y)) : -sum + (y > x ? normal_cdf(y) - normal_cdf(x) : 0);
    return std::min(1.0, std::max(0.0, result));
}

Moments relu_moments(double mean, double variance) {
    const double deviation = std::sqrt(variance);
    if (!(deviation > 0)) return {std::max(mean, 0.0), 0};
    const double a = mean / deviation, x = std::abs(a), mills = mills_ratio(x), f = density(x);
    // r = E max(-x + U, 0); the variance is Phi(a) - r (x + r), in which nothing cancels for large a.
    const double r = f * (1 - x * mills), tail = f * mills;
    return {std::max(mean, 0.0) + deviation * r, variance * std::max((a > 0 ? 1 - tail : tail) - r * (x + r), 0.0)};
}

void relu_covariance(int d, const double* mean, const double* covariance, double* mean_out, double* covariance_out) {
    for (int i = 0; i < d; ++i) {
        const Moments moments = relu_moments(mean[i], covariance[i * d + i]);
        mean_out[i] = moments.mean;
        covariance_out[i * d + i] = moments.variance;
        const double si = std::sqrt(covariance[i * d + i]);
        for (int j = 0; j < i; ++j) {
            const double sj = std::sqrt(covariance[j * d + j]);
            double value = 0;
            if (si > 0 && sj > 0)
                value =
                    si * sj *
                    standard_relu_covariance(mean[i] / si, mean[j] / sj, correlation(covariance[i * d + j], si, sj));
            covariance_out[i * d + j] = covariance_out[j * d + i] = value;
        }
    }
}

TruncatedMoments truncated_normal_moments(double mean, double variance, double lower, double upper) {
    const double deviation = std::sqrt(variance);
    if (!(deviation > 0)) return {lower < mean && mean < upper ? 1.0 : 0.0, std::min(std::max(mean, lower), upper), 0};
    const double left = (lower - mean) / deviation, right = (upper - mean) / deviation;
    // Mirrored so that the interval's nearest point to 0 is its lower end, or 0 is inside.
    const double sign = right < 0 ? -1 : 1;
    const double a = sign > 0 ? left : -right, b = sign > 0 ? right : -left;
    const double width = b - a, nearest = std::max(a, 0.0);
    double probability, m, v;
    if (width * std::max(1.0, std::abs(a)) < 1) {
        // A narrow interval: quadrature about its middle, where the closed form would cancel.
        const Legendre& rule = legendre();
        const double middle = a + width / 2;
        double s0 = 0, s1 = 0, s2 = 0;
        for (int i = 0; i < nodes; ++i) {
            const double z = width / 2 * rule.x[i];
            const double w = rule.w[i] * std::exp(-z * (middle + z / 2));
            s0 += w;
            s1 += w * z;
            s2 += w * z * z;
        }
        m = middle + s1 / s0;
        v = s2 / s0 - (s1 / s0) * (s1 / s0);
        probability = s0 * width / 2 * density(middle);
    } else {
        // In units of the density at the nearest point, which may underflow.
        const double ratio_a = a > 0 ? 1 : std::isfinite(a) ? std::exp(-a * a / 2) : 0;
        const double ratio_b = std::isfinite(b) ? std::exp((nearest - b) * (nearest + b) / 2) : 0;
        double mass;
        if (a > 0)
            mass = mills_ratio(a) - (std::isfinite(b) ? ratio_b * mills_ratio(b) : 0);
        else
            mass = (normal_cdf(b) - normal_cdf(a)) * std::sqrt(2 * pi);
        m = (ratio_a - ratio_b) / mass;
        const double edge_a = std::isfinite(a) ? a * ratio_a : 0, edge_b = std::isfinite(b) ? b * ratio_b : 0;
        v = 1 + (edge_a - edge_b) / mass - m * m;
        probability = mass * density(nearest);
    }
    return {probability, mean + sign * deviation * m, variance * std::max(v, 0.0)};
}

double condition_on_half_space(int d, const double* mean, const double* covariance, const double* normal, double offset,
                               double* mean_out, double* covariance_out) {
    std::vector<double> along(d);  // covariance of Z with normal . Z
    double centre = 0, variance = 0;
    for (int i = 0; i < d; ++i) {
        for (int j = 0; j < d; ++j) along[i] += covariance[i * d + j] * normal[j];
        centre += normal[i] * mean[i];
    }
    for (int i = 0; i < d; ++i) variance += normal[i] * along[i];
    const TruncatedMoments t = truncated_normal_moments(centre, std::max(variance, 0.0), offset, inf);
    const double shift = variance > 0 ? (t.mean - centre) / variance : 0;
    const double shrink = variance > 0 ? (1 - t.variance / variance) / variance : 0;
    for (int i = 0; i < d; ++i) {
        mean_out[i] = mean[i] + along[i] * shift;
        for (int j = 0; j < d; ++j) covariance_out[i * d + j] = covariance[i * d + j] - along[i] * along[j] * shrink;
    }
    return t.probability;
}

Probability orthant_genz(int d, const double* mean, const double* covariance, double tolerance,
                         std::int64_t max_points) {
    const Ordered o = order_variables(d, mean, covariance);
    const double diagonal = o.factor[0];
    const double first = diagonal > 0 ? normal_cdf(o.limit[0]) : o.limit[0] > 0 ? 1 : 0;
    constexpr double rounding = 1e-14;
    if (d == 1) return {first, rounding};
    if (d == 2 && diagonal > 0 && std::isfinite(o.limit[1]))
        return {bivariate_normal_cdf(o.limit[0], o.limit[1], std::min(1.0, std::max(-1.0, o.factor[2]))), rounding};
    constexpr int shifts = 12;
    const std::vector<double> generator = root_primes(d - 1);
    std::vector<double> u(d), y(d), sums(shifts);
    Probability result{0, inf};
    std::int64_t done = 0;
    for (std::int64_t points = 128;; points *= 2) {
        points = std::min(points, std::max<std::int64_t>(max_points / shifts, 1));
        for (int s = 0; s < shifts; ++s)
            for (std::int64_t i = done; i < points; ++i) {
                for (int j = 0; j < d - 1; ++j) {
                    const double z = static_cast<double>(i + 1) * generator[j] + hashed(s * 4096 + j);
                    u[j] = std::abs(2 * (z - std::floor(z)) - 1);  // the fold makes the integrand periodic
                }
                sums[s] += integrand(o, u.data(), y.data());
            }
        done = points;
        double average = 0, squares = 0;
        for (double sum : sums) average += sum / points / shifts;
        for (double sum : sums) squares += (sum / points - average) * (sum / points - average);
        result = {average, 4 * std::sqrt(squares / (shifts * (shifts - 1))) + rounding};
        if (result.error <= tolerance || points >= max_points / shifts) return result;
    }
}

double orthant_mendell_elston(int d, const double* mean, const double* covariance) {
    std::vector<double> m(mean, mean + d), C(covariance, covariance + d * d);
    std::vector<bool> used(d);
    double probability = 1;
    for (int step = 0; step < d; ++step) {
        int pivot = -1;
        double least = inf;
        for (int i = 0; i < d; ++i) {
            if (used[i]) continue;
            const double s = std::sqrt(std::max(C[i * d + i], 0.0));
            const double a = s > 0 ? m[i] / s : m[i] > 0 ? inf : -inf;
            if (pivot < 0 || a < least) {
                pivot = i;
                least = a;
            }
        }
        used[pivot] = true;
        if (least == inf) continue;
        if (least == -inf) return 0;
        const double variance = C[pivot * d + pivot];
        const double hazard =
            least > 0 ? density(least) / normal_cdf(least) : 1 / mills_ratio(-least);  // E[U | U > -a]
        const double shrink = hazard * (hazard + least);
        probability *= normal_cdf(least);
        const std::vector<double> row(C.begin() + pivot * d, C.begin() + (pivot + 1) * d);
        for (int i = 0; i < d; ++i) {
            if (used[i]) continue;
            m[i] += row[i] / std::sqrt(variance) * hazard;
            for (int j = 0; j < d; ++j)
                if (!used[j]) C[i * d + j] -= row[i] * row[j] / variance * shrink;
        }
    }
    return probability;
}

}  // namespace outsample
