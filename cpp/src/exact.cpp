#include "outsample/exact.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "outsample/parallel.hpp"

namespace outsample {

namespace {

constexpr double pi = 3.14159265358979323846;
constexpr double unit_roundoff = 0x1p-53;
constexpr int function_cost = 16;  // multiply-adds that a square root or an arc tangent is counted as

template <int N>
using Vec = std::array<double, N>;

template <int N>
double dot(const Vec<N>& a, const Vec<N>& b) {
    double sum = 0.0;
    for (int i = 0; i < N; ++i) sum += a[i] * b[i];
    return sum;
}

template <int N>
Vec<N> minus(const Vec<N>& a, const Vec<N>& b) {
    Vec<N> result;
    for (int i = 0; i < N; ++i) result[i] = a[i] - b[i];
    return result;
}

template <int N>
double norm(const Vec<N>& a) {
    return std::sqrt(dot<N>(a, a));
}

Vec<3> cross(const Vec<3>& a, const Vec<3>& b) {
    return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

// Neumaier's compensated sum.
class Sum {
  public:
    void add(double x) {
        const double t = sum_ + x;
        rest_ += std::abs(sum_) >= std::abs(x) ? (sum_ - t) + x : (x - t) + sum_;
        sum_ = t;
    }
    double value() const { return sum_ + rest_; }

  private:
    double sum_ = 0.0, rest_ = 0.0;
};

// A convex cell of the sphere in N dimensions as its unit vertices: one point (N = 1), the ends of an arc of at most a
// right angle (N = 2), or a spherical polygon in anticlockwise order (N = 3).
template <int N>
using Cell = const Vec<N>*;

template <int N>
double sphere_measure() {
    return N == 1 ? 2.0 : N == 2 ? 2.0 * pi : 4.0 * pi;
}

// Sum of the lengths of the chords of the edges.
template <int N>
double boundary(Cell<N> v, int count) {
    double sum = 0.0;
    if constexpr (N == 3)
        for (int i = 0; i < count; ++i) sum += norm<N>(minus<N>(v[(i + 1) % count], v[i]));
    return sum;
}

// Number of points, length of the arc, or solid angle.
template <int N>
double measure(Cell<N> v, int count) {
    if constexpr (N == 1) {
        return 1.0;
    } else if constexpr (N == 2) {
        const Vec<2> step = minus<2>(v[1], v[0]);
        return std::atan2(std::abs(v[0][0] * step[1] - v[0][1] * step[0]), dot<2>(v[0], v[1]));
    } else {
        // Half the solid angle of a triangle is the argument of (1 + ab + bc + ca) + i det(a, b, c). A cell is at most
        // a twelfth of the sphere, so the argument of the product over a fan of triangles never wraps. Differences of
        // vertices keep slivers accurate.
        double re = 1.0, im = 0.0;
        for (int i = 1; i + 1 < count; ++i) {
            const double x = 1.0 + dot<3>(v[0], v[i]) + dot<3>(v[i], v[i + 1]) + dot<3>(v[i + 1], v[0]);
            const double y = dot<3>(v[0], cross(minus<3>(v[i], v[0]), minus<3>(v[i + 1], v[0])));
            const double next = re * x - im * y;
            im = re * y + im * x;
            re = next;
        }
        return 2.0 * std::atan2(std::max(im, 0.0), re);
    }
}

// Integral of (q u)^2 over the directions u of a cell. N = 3: (q u)^2 less its mean is a spherical harmonic of degree
// two, so its integral is one over the boundary (Green's identity on the sphere), which is elementary on great circles.
template <int N>
double integral_of_square(Cell<N> v, int count, const Vec<N>& q, double cell_measure) {
    if constexpr (N == 1) {
        return q[0] * q[0];
    } else if constexpr (N == 2) {
        const double along = q[0] * (v[0][0] + v[1][0]) + q[1] * (v[0][1] + v[1][1]);
        const double across = q[0] * (v[1][0] - v[0][0]) + q[1] * (v[1][1] - v[0][1]);
        const double sine = std::sin(cell_measure);
        const double c = 2.0 + 2.0 * std::cos(cell_measure);  // |v0 + v1|^2
        const double s = 4.0 - c;                             // |v1 - v0|^2
        const double even = along * along / c * (cell_measure + sine) / 2.0;
        return s > 0.0 ? even + across * across / s * (cell_measure - sine) / 2.0 : even;
    } else {
        double edges = 0.0;
        for (int i = 0; i < count; ++i) {
            const Vec<3>&a = v[i], &b = v[(i + 1) % count];
            edges += dot<3>(q, cross(a, minus<3>(b, a))) * (dot<3>(q, a) + dot<3>(q, b)) / (1.0 + dot<3>(a, b));
        }
        return (dot<3>(q, q) * cell_measure + edges) / 3.0;
    }
}

// a + b exactly, as the rounded sum and its error (Knuth).
double sum_error(double a, double b, double sum) {
    const double t = sum - a;
    return (a - (sum - t)) + (b - t);
}

// a * b exactly, as the rounded product and its error (Dekker; no fused multiply-add, which not every build has).
double product_error(double a, double b, double product) {
    constexpr double splitter = 134217729.0;  // 2^27 + 1
    const double ta = splitter * a, tb = splitter * b;
    const double a1 = ta - (ta - a), b1 = tb - (tb - b);
    const double a2 = a - a1, b2 = b - b1;
    return a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2);
}

// A linear function of the input, with a running bound on what rounding has done to it.
template <int N>
struct Linear {
    Vec<N> row{};
    double error = 0.0;  // sum over coefficients; 0 if they are exact

    void add(double weight, const Linear& other) {
        error += std::abs(weight) * other.error;
        for (int i = 0; i < N; ++i) {
            const double product = weight * other.row[i], sum = row[i] + product;
            error += std::abs(product_error(weight, other.row[i], product)) + std::abs(sum_error(row[i], product, sum));
            row[i] = sum;
        }
    }
};

struct Totals {
    Sum all, value, uncertain;  // measure of all cells, of the correct part (or the integral), of what rounding moves
    std::int64_t cells = 0, multiply_adds = 0;
};

// Works through one cell on which the ranking of the inputs is fixed.
template <int N>
class Integrator {
  public:
    Integrator(const Network& network, Task task) : network_(network), task_(task) {
        for (auto& step : steps_) {
            step.z.resize(network.hidden_size);
            step.active.resize(network.hidden_size);
        }
    }

    Totals run(const std::vector<Vec<N>>& vertices) {
        totals_ = {};
        vertices_ = vertices;
        Vec<N> inside{};
        for (const auto& v : vertices)
            for (int i = 0; i < N; ++i) inside[i] += v[i];
        std::array<int, N> ranked;
        for (int i = 0; i < N; ++i) ranked[i] = i;
        std::stable_sort(ranked.begin(), ranked.end(), [&](int a, int b) { return inside[a] > inside[b]; });
        set_question(ranked);
        step(0, 0, static_cast<int>(vertices.size()));
        return totals_;
    }

  private:
    struct Step {
        std::vector<Linear<N>> z;  // pre-activations
        std::vector<char> active;
    };
    using Outputs = std::array<Linear<N>, N>;

    struct Signs {
        bool positive = false, negative = false;
    };

    const Network& network_;
    const Task task_;
    Totals totals_;
    std::array<Step, N> steps_;
    std::vector<Vec<N>> vertices_;  // stack of cells
    std::vector<double> values_;    // of the function being looked at, on the vertices of the cell being looked at
    // What is read from the last state: for the accuracy, the label's logit less each rival's; for the median task, the
    // output. Row-major, rows_ x d.
    std::vector<double> readout_;
    int rows_ = 0;
    std::array<bool, N> wins_ties_{};
    Vec<N> median_{};

    void set_question(const std::array<int, N>& ranked) {
        const int d = network_.hidden_size;
        readout_.clear();
        rows_ = 0;
        if (task_ == Task::median) {
            median_ = {};
            median_[ranked[(N - 1) / 2]] += 0.5;
            median_[ranked[N / 2]] += 0.5;
            readout_.assign(network_.W_oh, network_.W_oh + d);
            rows_ = 1;
            return;
        }
        const int label = ranked[task_ == Task::argmax ? 0 : task_ == Task::argmedian ? N / 2 : 1 % N];
        for (int rival = 0; rival < N; ++rival) {
            if (rival == label) continue;
            for (int k = 0; k < d; ++k)
                readout_.push_back(double(network_.W_oh[label * d + k]) - double(network_.W_oh[rival * d + k]));
            wins_ties_[rows_++] = label < rival;
        }
    }

    // How far from the truth the computed value of a function can be at a vertex, which carries its own rounding. The
    // factor covers what the first-order bound leaves out.
    static double tolerance(const Linear<N>& f) {
        double size = 0.0;
        for (double x : f.row) size += std::abs(x);
        return 2.0 * f.error + (2 * N + 8) * unit_roundoff * size;
    }

    // Signs of a function on a cell. Values within the tolerance count as zero and are stored as such; the measure of
    // the strip in which rounding can hide the sign is added to the uncertain part.
    Signs signs(const Linear<N>& f, int first, int count) {
        const double limit = tolerance(f);
        Signs result;
        bool near = false;
        values_.resize(std::max<std::size_t>(values_.size(), count));
        for (int i = 0; i < count; ++i) {
            double value = dot<N>(f.row, vertices_[first + i]);
            if (value > limit)
                result.positive = true;
            else if (value < -limit)
                result.negative = true;
            else
                near = true, value = 0.0;
            values_[i] = value;
        }
        totals_.multiply_adds += N * count;
        if (limit > 0.0 && (near || (result.positive && result.negative)))
            totals_.uncertain.add(strip(limit, f.row, first, count));
        return result;
    }

    // At most the measure of the part of a cell on which a linear function is within the limit of zero.
    double strip(double limit, const Vec<N>& row, int first, int count) {
        const Vec<N>* cell = &vertices_[first];
        double steepness = 0.0;
        for (double x : row) steepness = std::hypot(steepness, x);
        const double width = limit / steepness;  // an angle
        if (!(width < 0.01)) return measure<N>(cell, count);
        if (N == 2) return 2.02 * width;
        totals_.multiply_adds += count * (N + function_cost);
        return 1.2 * width * boundary<N>(cell, count);  // arcs are at most 1.11 times their chords
    }

    // Pushes the part of a cell on which the function just looked at has the given sign; returns its vertex count.
    int push_part(double sign, int first, int count) {
        const int begin = static_cast<int>(vertices_.size());
        const int edges = N == 3 ? count : count - 1;
        for (int i = 0; i < count; ++i) {
            if (sign * values_[i] >= 0.0) vertices_.push_back(vertices_[first + i]);
            const int j = (i + 1) % count;
            const bool crossing = values_[i] > 0.0 ? values_[j] < 0.0 : values_[i] < 0.0 && values_[j] > 0.0;
            if (i >= edges || !crossing) continue;
            // The weight is a ratio, so that values too small to be multiplied do no harm.
            const double along = values_[i] / (values_[i] - values_[j]);
            Vec<N> cut;
            for (int c = 0; c < N; ++c)
                cut[c] = vertices_[first + i][c] * (1.0 - along) + vertices_[first + j][c] * along;
            const double scale = 1.0 / norm<N>(cut);
            for (double& x : cut) x *= scale;
            vertices_.push_back(cut);
            totals_.multiply_adds += 4 * N + 2 * function_cost;
        }
        return static_cast<int>(vertices_.size()) - begin;
    }

    void step(int t, int first, int count) {
        const int d = network_.hidden_size;
        Step& now = steps_[t];
        std::int64_t used = 0;
        for (int k = 0; k < d; ++k) {
            Linear<N> z;
            z.row[t] = network_.W_hi[k];
            if (t > 0)
                for (int j = 0; j < d; ++j)
                    if (steps_[t - 1].active[j]) z.add(network_.W_hh[k * d + j], steps_[t - 1].z[j]), ++used;
            now.z[k] = z;
        }
        totals_.multiply_adds += used * (N + 1);  // the error bound counted as one more coefficient
        split(t, 0, first, count, Outputs{});
    }

    // Splits a cell by the sign of pre-activation k of step t, and so on to the last unit.
    void split(int t, int k, int first, int count, Outputs outputs) {
        const int d = network_.hidden_size;
        Step& now = steps_[t];
        for (; k < d; ++k) {
            const Signs found = signs(now.z[k], first, count);
            if (found.positive && found.negative) {
                const std::vector<double> values(values_.begin(), values_.begin() + count);
                for (bool active : {false, true}) {
                    const int begin = static_cast<int>(vertices_.size());
                    std::copy(values.begin(), values.end(), values_.begin());
                    const int size = push_part(active ? 1.0 : -1.0, first, count);
                    now.active[k] = active;
                    Outputs next = outputs;
                    if (active && t == N - 1) read(k, next);
                    split(t, k + 1, begin, size, next);
                    vertices_.resize(begin);
                }
                return;
            }
            now.active[k] = found.positive;
            if (found.positive && t == N - 1) read(k, outputs);
        }
        if (t + 1 < N)
            step(t + 1, first, count);
        else
            finish(first, count, outputs);
    }

    void read(int k, Outputs& outputs) {
        for (int r = 0; r < rows_; ++r) outputs[r].add(readout_[r * network_.hidden_size + k], steps_[N - 1].z[k]);
        totals_.multiply_adds += rows_ * (N + 1);
    }

    double measured(int first, int count) {
        totals_.multiply_adds += N == 3 ? (count - 2) * 28 + function_cost : 6 + function_cost;
        totals_.uncertain.add(unit_roundoff * (N == 3 ? 16.0 * boundary<N>(&vertices_[first], count) : 8.0));
        return measure<N>(&vertices_[first], count);
    }

    void finish(int first, int count, const Outputs& outputs) {
        const double all = measured(first, count);
        totals_.all.add(all);
        ++totals_.cells;
        if (task_ == Task::median) {
            const Vec<N> error = minus<N>(outputs[0].row, median_);
            const double size = norm<N>(error);
            totals_.value.add(integral_of_square<N>(&vertices_[first], count, error, all));
            totals_.uncertain.add(2.0 * size * tolerance(outputs[0]) * all +
                                  size * size * unit_roundoff * (16.0 * boundary<N>(&vertices_[first], count) + 32.0));
            totals_.multiply_adds += count * 24 + 16;
            return;
        }
        const int base = static_cast<int>(vertices_.size());
        bool whole = true, correct = true;
        for (int r = 0; r < rows_ && correct; ++r) {
            const Signs found = signs(outputs[r], first, count);
            if (found.positive && found.negative) {
                const int begin = static_cast<int>(vertices_.size());
                count = push_part(1.0, first, count);
                first = begin;
                whole = false;
            } else {
                correct = found.positive || (!found.negative && wins_ties_[r]);
            }
        }
        if (correct) totals_.value.add(whole ? all : measured(first, count));
        vertices_.resize(base);
    }
};

// Cells on which the ranking of the inputs is fixed, with edges of at most a right angle.
template <int N>
std::vector<std::vector<Vec<N>>> ranked_cells() {
    std::vector<std::vector<Vec<N>>> cells;
    if constexpr (N == 1) {
        cells = {{{1.0}}, {{-1.0}}};
    } else if constexpr (N == 2) {
        const double c = std::sqrt(0.5);
        const std::array<Vec<2>, 4> rays{{{c, -c}, {c, c}, {-c, c}, {-c, -c}}};
        for (int i = 0; i < 4; ++i) cells.push_back({rays[i], rays[(i + 1) % 4]});
    } else {
        std::array<int, 3> ranked{0, 1, 2};
        do {
            Vec<3> top,
                bottom;  // on the circle where the inputs sum to zero: x_(1) > x_(2) = x_(3) and x_(1) = x_(2) > x_(3)
            for (int i = 0; i < 3; ++i) {
                top[ranked[i]] = (i == 0 ? 2.0 : -1.0) / std::sqrt(6.0);
                bottom[ranked[i]] = (i == 2 ? -2.0 : 1.0) / std::sqrt(6.0);
            }
            for (double side : {1.0, -1.0}) {
                const double c = side / std::sqrt(3.0);
                const Vec<3> pole{c, c, c};
                if (dot<3>(pole, cross(top, bottom)) > 0.0)
                    cells.push_back({pole, top, bottom});
                else
                    cells.push_back({pole, bottom, top});
            }
        } while (std::next_permutation(ranked.begin(), ranked.end()));
    }
    return cells;
}

template <int N>
ExactResult integrate(const Network& network, Task task, int threads) {
    const auto cells = ranked_cells<N>();
    std::vector<Totals> parts(cells.size());
    parallel_for(cells.size(), 1, threads, [&](std::int64_t first, std::int64_t last) {
        Integrator<N> integrator(network, task);
        for (std::int64_t i = first; i < last; ++i) parts[i] = integrator.run(cells[i]);
    });
    Sum all, value, uncertain;
    ExactResult result{};
    for (const auto& part : parts) {
        all.add(part.all.value());
        value.add(part.value.value());
        uncertain.add(part.uncertain.value());
        result.cells += part.cells;
        result.multiply_adds += part.multiply_adds;
    }
    const double sphere = sphere_measure<N>();
    // For the median task, the radius factors out: E |x|^2 = N.
    const double scale = (task == Task::median ? N : 1.0) / sphere;
    result.value = scale * value.value();
    result.error_bound = scale * uncertain.value() + 4.0 * unit_roundoff * std::abs(result.value);
    result.coverage = all.value() / sphere;
    if (std::abs(result.coverage - 1.0) > 1e-9)
        throw std::runtime_error("exact integration: the cells cover " + std::to_string(result.coverage) +
                                 " of the sphere");
    if (task != Task::median) result.value = std::min(result.value, 1.0);
    return result;
}

}  // namespace

ExactResult integrate_exactly(const Network& network, Task task, int threads) {
    if (network.b_h || network.b_o) throw std::invalid_argument("exact integration needs a network without biases");
    switch (network.seq_len) {
        case 1:
            return integrate<1>(network, task, threads);
        case 2:
            return integrate<2>(network, task, threads);
        case 3:
            return integrate<3>(network, task, threads);
        default:
            throw std::invalid_argument("exact integration needs seq_len at most " + std::to_string(exact_max_seq_len) +
                                        ", got " + std::to_string(network.seq_len));
    }
}

}  // namespace outsample
