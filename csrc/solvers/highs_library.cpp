#include "solvers/highs_library.hpp"

#include <dlfcn.h>

#include "solvers/linear_program.hpp"

namespace pyfront {

namespace {

constexpr HighsInt required_major = 1;
constexpr HighsInt required_minor = 15;

[[noreturn]] void refuse(const std::string& path, const std::string& found) {
  throw HighsUnavailable("HiGHS: " + found + " ('" + path +
                         "'); install it with: pip install \"highspy>=1.15,<2\"");
}

template <typename Function>
void find(Function& function, void* library, const std::string& path, const char* name) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) refuse(path, std::string("the library has no function ") + name);
}

// Versions first: an older library may lack functions, and its version says more than their names.
void check_version(void* library, const std::string& path) {
  HighsInt (*major)() = nullptr;
  HighsInt (*minor)() = nullptr;
  HighsInt (*integer_bytes)(const void*) = nullptr;
  find(major, library, path, "Highs_versionMajor");
  find(minor, library, path, "Highs_versionMinor");
  find(integer_bytes, library, path, "Highs_getSizeofHighsInt");
  if (major() != required_major || minor() < required_minor) {
    refuse(path, "need version >= 1.15 and < 2, found " + std::to_string(major()) + "." +
                     std::to_string(minor()));
  }
  if (const auto bytes = integer_bytes(nullptr); bytes != sizeof(HighsInt)) {
    refuse(path, "need a build with 4-byte integers, found " + std::to_string(bytes) + " bytes");
  }
}

}  // namespace

void HighsLibrary::Close::operator()(void* library) const { dlclose(library); }

HighsLibrary::HighsLibrary(const std::string& path)
    // NODELETE: HiGHS keeps thread-local state whose destructors must outlive the last handle
    : library_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) {
  if (!library_) {
    const char* reason = dlerror();
    refuse(path, std::string("cannot open the library: ") + (reason ? reason : "no reason given"));
  }
  void* const library = library_.get();
  check_version(library, path);
  find(create, library, path, "Highs_create");
  find(destroy, library, path, "Highs_destroy");
  find(set_bool, library, path, "Highs_setBoolOptionValue");
  find(set_int, library, path, "Highs_setIntOptionValue");
  find(set_double, library, path, "Highs_setDoubleOptionValue");
  find(set_string, library, path, "Highs_setStringOptionValue");
  find(pass_lp, library, path, "Highs_passLp");
  find(set_basis, library, path, "Highs_setBasis");
  find(run, library, path, "Highs_run");
  find(model_status, library, path, "Highs_getModelStatus");
  find(solution, library, path, "Highs_getSolution");
}

std::shared_ptr<const HighsLibrary> load_highs(const std::string& path) {
  return std::make_shared<const HighsLibrary>(path);
}

}  // namespace pyfront
