#pragma once

#include <string_view>

namespace pyfront {

// Outcome of a decision. Anything but `ok` tells the caller what to look at.
enum class Status {
  ok,
  stationary,         // no direction lowers what is asked for: C = 0, or all losses are 0
  feasible,           // no active constraint is left
  iteration_limit,    // the solver stopped at its cap; the answer is feasible, not optimal
  fallback_relaxed,   // EPO: the restricted descent program had no answer, the relaxed one did
  fallback_min_norm,  // EPO: no linear program had an answer; the weights are the min-norm ones
  out_of_range,       // gradients whose lengths are too many decades apart; nothing was solved
  nonfinite,          // losses or gradients hold NaN or infinity; nothing was solved
};

constexpr std::string_view to_string(Status status) {
  switch (status) {
    case Status::ok:
      return "ok";
    case Status::stationary:
      return "stationary";
    case Status::feasible:
      return "feasible";
    case Status::iteration_limit:
      return "iteration_limit";
    case Status::fallback_relaxed:
      return "fallback_relaxed";
    case Status::fallback_min_norm:
      return "fallback_min_norm";
    case Status::out_of_range:
      return "out_of_range";
    case Status::nonfinite:
      return "nonfinite";
  }
  return "unknown";
}

// What a decision is after.
enum class Phase { balance, descent, feasibility, convergence };

constexpr std::string_view to_string(Phase phase) {
  switch (phase) {
    case Phase::balance:
      return "balance";
    case Phase::descent:
      return "descent";
    case Phase::feasibility:
      return "feasibility";
    case Phase::convergence:
      return "convergence";
  }
  return "unknown";
}

}  // namespace pyfront
