#include "bind_network.hpp"

#include <algorithm>
#include <optional>

#include "outsample/points.hpp"

namespace {

// `shape` spells the dimensions before the last two.
void check_groups(const Array<float>& tables, const char* name, int rows, int dimensions, const std::string& shape) {
    if (tables.ndim() != dimensions || tables.shape(dimensions - 2) != rows ||
        tables.shape(dimensions - 1) != outsample::points_per_group)
        throw std::invalid_argument(std::string(name) + " must have shape (" + shape + ", " + std::to_string(rows) +
                                    ", " + std::to_string(outsample::points_per_group) + "), got " +
                                    shape_text(tables));
}

outsample::PointTable grouped(const float* data, std::int64_t copies, std::int64_t groups, int rows, bool exact_last) {
    constexpr std::int64_t group = outsample::points_per_group;
    return {data, group, rows * group, copies, groups * group, exact_last};
}

// All copies of tables in groups (points 0), shape (copies, groups, rows, points_per_group), or of so many points each
// side by side, shape (rows, columns), behind which there are points_per_group - 1 columns at least.
outsample::PointTable copies_in(const Array<float>& tables, int seq_len, bool exact_last, std::int64_t points) {
    constexpr std::int64_t group = outsample::points_per_group;
    const int rows = outsample::point_rows(seq_len, exact_last);
    if (points < 0) throw std::invalid_argument("points must be at least 0, got " + std::to_string(points));
    if (points == 0) {
        check_groups(tables, "tables", rows, 4, "count, groups");
        return grouped(tables.data(), tables.shape(0), tables.shape(1), rows, exact_last);
    }
    if (tables.ndim() != 2 || tables.shape(0) != rows || tables.shape(1) < group)
        throw std::invalid_argument("tables must have shape (" + std::to_string(rows) + ", columns) with " +
                                    std::to_string(group) + " columns at least, got " + shape_text(tables));
    const std::int64_t columns = tables.shape(1);
    return {tables.data(), columns, group, (columns - group + 1) / points, points, exact_last};
}

void check_copies(const outsample::PointTable& all, std::int64_t copies) {
    if (copies < 1 || copies > all.copies)
        throw std::invalid_argument("copies must be from 1 to " + std::to_string(all.copies) + ", got " +
                                    std::to_string(copies));
}

// Room for the order of a network's inputs.
int positions_of(const outsample::Network& network) { return std::max(network.seq_len, outsample::least_positions); }

int inputs_of(const outsample::PointTable& table, const outsample::Network& network) {
    return table.exact_last ? network.seq_len - 1 : network.seq_len;
}

py::tuple sums_of(const outsample::Network& network, const outsample::PointTable& table, int threads,
                  std::int64_t intervals) {
    std::vector<double> sums(table.copies);
    std::int64_t walked = 0;
    {
        py::gil_scoped_release release;
        walked = outsample::point_sums(network, table, intervals, threads, sums.data());
    }
    return py::make_tuple(sums, walked);
}

// Apart from random_point_sums: pybind11 passes up to six arguments without allocating memory.
py::tuple point_sums(const PyNetwork& network, const Array<float>& tables, bool exact_last, int threads,
                     std::int64_t intervals, std::int64_t points) {
    const auto& view = network.view();
    return sums_of(view, copies_in(tables, view.seq_len, exact_last, points), threads, intervals);
}

py::tuple random_point_sums(const PyNetwork& network, const Array<float>& tables, bool exact_last, int threads,
                            std::int64_t points, std::int64_t copies, std::uint64_t key) {
    const auto& view = network.view();
    const auto all = copies_in(tables, view.seq_len, exact_last, points);
    check_copies(all, copies);
    std::vector<int> position(positions_of(view));
    const auto run = outsample::random_run(all, copies, inputs_of(all, view), key, position.data());
    return sums_of(view, run, threads, outsample::any_intervals);
}

// The sums, shape (networks, copies), and the intervals walked, shape (networks,).
py::tuple point_sums_many(const std::vector<std::shared_ptr<PyNetwork>>& networks, const Array<float>& tables,
                          bool exact_last, int threads, std::int64_t intervals, std::int64_t points,
                          std::int64_t copies, const std::optional<std::vector<std::uint64_t>>& keys) {
    check_threads(threads);
    if (keys) require_key_for_each(keys->size(), networks.size());
    const auto views = views_of_one_shape(networks);
    const auto count = static_cast<py::ssize_t>(views.size());
    Array<std::int64_t> walked(count);
    if (count == 0) return py::make_tuple(Array<double>({count, py::ssize_t(copies)}), walked);
    const auto all = copies_in(tables, views[0]->seq_len, exact_last, points);
    const int room = positions_of(*views[0]);
    std::vector<int> positions(keys ? count * room : 0);
    if (keys) check_copies(all, copies);
    std::vector<outsample::PointJob> jobs;
    for (py::ssize_t i = 0; i < count; ++i)
        jobs.push_back({views[i], keys ? outsample::random_run(all, copies, inputs_of(all, *views[i]), (*keys)[i],
                                                               &positions[i * room])
                                       : all});
    Array<double> sums({count, py::ssize_t(jobs[0].table.copies)});
    double* sum = sums.mutable_data();
    std::int64_t* steps = walked.mutable_data();
    {
        py::gil_scoped_release release;
        outsample::point_sums_many(jobs.data(), count, intervals, threads, sum, steps);
    }
    return py::make_tuple(sums, walked);
}

Array<double> point_sums_of_weights(const Array<float>& weights, int hidden_size, int seq_len,
                                    const Array<float>& table, bool exact_last, int threads) {
    const int shortest = exact_last ? 2 : 1;
    if (seq_len < shortest)
        throw std::invalid_argument("seq_len must be at least " + std::to_string(shortest) + ", got " +
                                    std::to_string(seq_len));
    check_threads(threads);
    const int table_rows = outsample::point_rows(seq_len, exact_last);
    check_groups(table, "table", table_rows, 3, "groups");
    const py::ssize_t d = hidden_size;
    std::vector<outsample::Network> networks;
    for (const float* w : rows(weights, hidden_size, seq_len))
        networks.push_back({hidden_size, seq_len, seq_len, w, w + d * d, w + d * (d + 1), nullptr, nullptr});
    const auto points = grouped(table.data(), 1, table.shape(0), table_rows, exact_last);
    Array<double> sums(py::ssize_t(networks.size()));
    double* out = sums.mutable_data();
    {
        py::gil_scoped_release release;
        std::vector<outsample::PointJob> jobs;
        for (const auto& network : networks) jobs.push_back({&network, points});
        std::vector<std::int64_t> walked(jobs.size());
        outsample::point_sums_many(jobs.data(), static_cast<std::int64_t>(jobs.size()), outsample::any_intervals,
                                   threads, out, walked.data());
    }
    return sums;
}

py::tuple conditional_sum(const PyNetwork& network, const std::string& task, std::int64_t strata, std::uint64_t key,
                          int threads, std::int64_t intervals) {
    const auto parsed = outsample::parse_task(task);
    outsample::RuleSum result;
    {
        py::gil_scoped_release release;
        result = outsample::conditional_sum(network.view(), parsed, strata, key, intervals, threads);
    }
    return py::make_tuple(result.sum, result.squares, result.walked);
}

// The same for each of many networks with a key of its own: three arrays of shape (networks,).
py::tuple conditional_sum_many(const std::vector<std::shared_ptr<PyNetwork>>& networks, const std::string& task,
                               std::int64_t strata, const std::vector<std::uint64_t>& keys, int threads,
                               std::int64_t intervals) {
    check_threads(threads);
    require_key_for_each(keys.size(), networks.size());
    const auto views = views_of_one_shape(networks);
    const auto parsed = outsample::parse_task(task);
    const auto count = static_cast<py::ssize_t>(views.size());
    std::vector<outsample::RuleSum> results(views.size());
    {
        py::gil_scoped_release release;
        outsample::conditional_sum_many(views.data(), keys.data(), count, parsed, strata, intervals, threads,
                                        results.data());
    }
    Array<double> sums(count), squares(count);
    Array<std::int64_t> walked(count);
    for (py::ssize_t i = 0; i < count; ++i) {
        sums.mutable_at(i) = results[i].sum;
        squares.mutable_at(i) = results[i].squares;
        walked.mutable_at(i) = results[i].walked;
    }
    return py::make_tuple(sums, squares, walked);
}

Array<float> conditional_expectations(const PyNetwork& network, const std::string& task, const Array<float>& x,
                                      int threads) {
    const auto& view = network.view();
    if (x.ndim() != 2 || x.shape(1) != view.seq_len - 1)
        throw std::invalid_argument("x must have shape (count, " + std::to_string(view.seq_len - 1) + ")");
    const auto parsed = outsample::parse_task(task);
    Array<float> expectations(x.shape(0));
    const float* in = x.data();
    float* out = expectations.mutable_data();
    const std::int64_t count = x.shape(0);
    {
        py::gil_scoped_release release;
        outsample::conditional_expectations(view, parsed, in, count, threads, out);
    }
    return expectations;
}

}  // namespace

void bind_points(py::module_& m) {
    m.attr("points_per_group") = outsample::points_per_group;
    m.attr("strata_boxes") = outsample::strata_boxes;
    m.def(
        "point_sums", &point_sums, "network"_a, "tables"_a, "exact_last"_a, "threads"_a = 1,
        "intervals"_a = outsample::any_intervals, "points"_a = 0,
        "For each table of points, the sum of weight times probability of a right answer; intervals walked in all, so "
        "many times the number of points at most. Tables are groups of points, shape (count, groups, rows, "
        "points_per_group), or, with `points`, of so many points each side by side, shape (rows, columns), and "
        "points_per_group - 1 columns to spare.");
    m.def(
        "random_point_sums", &random_point_sums, "network"_a, "tables"_a, "exact_last"_a, "threads"_a, "points"_a,
        "copies"_a, "key"_a,
        "point_sums for a random run of so many of the tables, the inputs in an order at random, forwards or backwards "
        "from one of them on.");
    m.def("point_sums_many", &point_sums_many, "networks"_a, "tables"_a, "exact_last"_a, "threads"_a = 1,
          "intervals"_a = outsample::any_intervals, "points"_a = 0, "copies"_a = 0, "keys"_a = py::none(),
          "point_sums, or random_point_sums with its own key each, for networks of one shape: sums (networks, tables) "
          "and intervals walked (networks,).");
    m.def("point_sums_of_weights", &point_sums_of_weights, "weights"_a, "hidden_size"_a, "seq_len"_a, "table"_a,
          "exact_last"_a, "threads"_a = 1,
          "The sum over one table of points for each network (a row of weights), as in point_sums.");
    m.def(
        "conditional_sum", &conditional_sum, "network"_a, "task"_a, "strata"_a, "key"_a, "threads"_a = 1,
        "intervals"_a = outsample::any_intervals,
        "Sum of P(right answer | first n - 1 inputs), or of E(squared error | first n - 1 inputs), over two samples in "
        "each stratum; sum over strata of their squared difference; intervals walked, so many times the number of "
        "samples "
        "at most.");
    m.def("conditional_sum_many", &conditional_sum_many, "networks"_a, "task"_a, "strata"_a, "keys"_a, "threads"_a = 1,
          "intervals"_a = outsample::any_intervals,
          "conditional_sum for networks of one shape, each with its own key: three arrays of shape (networks,).");
    m.def("conditional_expectations", &conditional_expectations, "network"_a, "task"_a, "x"_a, "threads"_a = 1,
          "P(right answer | first n - 1 inputs), or E(squared error | first n - 1 inputs), for x of shape "
          "(count, n - 1).");
    m.def(
        "rule_cost",
        [](const PyNetwork& network, const std::string& task, bool exact_last) {
            const auto cost = outsample::rule_cost(network.view(), outsample::parse_task(task), exact_last);
            return py::make_tuple(cost.once, cost.point, cost.interval, cost.most, cost.planned);
        },
        "network"_a, "task"_a, "exact_last"_a,
        "Multiply-adds made once, for each point, and for each interval walked; intervals of a point, at most and "
        "planned for.");
}
