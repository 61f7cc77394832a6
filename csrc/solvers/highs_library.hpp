#pragma once

// The part of HiGHS's C API that is used, declared here: nothing of HiGHS is needed to build.

#include <cstdint>
#include <memory>
#include <string>

namespace pyfront {

using HighsInt = std::int32_t;  // checked against Highs_getSizeofHighsInt

// Return codes and enumerations of highs_c_api.h, fixed by its interface.
namespace highs {
constexpr HighsInt error = -1;  // 0: ok, 1: warning
constexpr HighsInt row_wise = 2;
constexpr HighsInt maximize = -1;
constexpr HighsInt at_bound = 0;
constexpr HighsInt basic = 1;
constexpr HighsInt dual_simplex = 1;
constexpr HighsInt primal_simplex = 4;
constexpr HighsInt devex = 1;
constexpr HighsInt optimal = 7;
constexpr HighsInt infeasible = 8;
}  // namespace highs

struct HighsLibrary {
  explicit HighsLibrary(const std::string& path);  // throws HighsUnavailable

  void* (*create)();
  void (*destroy)(void*);
  HighsInt (*set_bool)(void*, const char*, HighsInt);
  HighsInt (*set_int)(void*, const char*, HighsInt);
  HighsInt (*set_double)(void*, const char*, double);
  HighsInt (*set_string)(void*, const char*, const char*);
  HighsInt (*pass_lp)(void*, HighsInt columns, HighsInt rows, HighsInt nonzeros, HighsInt format,
                      HighsInt sense, double offset, const double* cost, const double* column_lower,
                      const double* column_upper, const double* row_lower, const double* row_upper,
                      const HighsInt* starts, const HighsInt* indices, const double* values);
  HighsInt (*set_basis)(void*, const HighsInt* columns, const HighsInt* rows);
  HighsInt (*run)(void*);
  HighsInt (*model_status)(const void*);
  HighsInt (*solution)(const void*, double* columns, double* column_duals, double* rows,
                       double* row_duals);

 private:
  struct Close {
    void operator()(void* library) const;
  };
  std::unique_ptr<void, Close> library_;
};

}  // namespace pyfront
