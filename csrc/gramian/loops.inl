// The loops of GramianKernels for one instruction set: included by gramian_<set>.cpp inside an
// anonymous namespace, after its `Simd`. Those files are compiled for different instruction sets,
// so nothing here may call an inline function of the standard library: the linker could keep the
// version that other machines cannot run.

using Vector = Simd::Vector;

template <class T>
struct Type {
  using type = T;
};
template <bool condition, class A, class B>
struct Choose : Type<A> {};
template <class A, class B>
struct Choose<false, A, B> : Type<B> {};
template <class A, class B>
constexpr bool same = false;
template <class A>
constexpr bool same<A, A> = true;

// Asks for memory that is read soon; an address behind the block does no harm.
void prefetch(const void* address, std::int64_t offset) {
  const auto target =
      reinterpret_cast<std::uintptr_t>(address) + static_cast<std::uintptr_t>(offset);
  __builtin_prefetch(reinterpret_cast<const void*>(target), 0, 2);
}

template <class T>
void widen(const void* source, std::int64_t count, double* out) {
  const T* x = static_cast<const T*>(source);
  std::int64_t k = 0;
  for (; k + Simd::lanes <= count; k += Simd::lanes) Simd::store(out + k, Simd::load(x + k));
  if (k == count) return;
  const auto rest = static_cast<std::size_t>(count - k);
  alignas(64) T tail[Simd::lanes] = {};
  alignas(64) double wide[Simd::lanes];
  __builtin_memcpy(tail, x + k, rest * sizeof(T));
  Simd::store(wide, Simd::load(tail));
  __builtin_memcpy(out + k, wide, rest * sizeof(double));
}

double* sums_of(double* sums, std::int64_t i, std::int64_t j) {
  return sums + sum_lanes * pair_index(i, j);
}

// A panel of every task's gradient of type S, and where its products go.
template <class S>
struct Panel {
  const S* const* sources;
  std::int64_t tasks;
  std::int64_t count;  // elements
  std::int64_t ahead;  // bytes to the elements to prefetch
  double* wide;        // [tasks × panel_stride], room for the widened rows
  double* sums;

  // The task's elements, read as X: S, or the float64 of `wide`.
  template <class X>
  const X* row(std::int64_t task) const {
    if constexpr (same<X, S>) {
      return sources[task];
    } else {
      return wide + task * panel_stride;
    }
  }
};

// Products of C columns (tasks from `column` on) with R later rows (tasks from `row` on) and, if
// `triangle`, among the columns. T and U are what columns and rows are read as; with `keep` what is
// read as S is widened into `wide` on the way. A triangle prefetches: its rows from the third on,
// in the first band also the first two, which spreads all rows evenly over the arithmetic; every
// line twice, since a busy processor drops requests.
template <class S, class T, class U, int C, int R, bool triangle, bool keep>
void tile(const Panel<S>& panel, std::int64_t column, std::int64_t row) {
  const T* x[C];
  const U* y[R + 1];
  for (int j = 0; j < C; ++j) x[j] = panel.template row<T>(column + j);
  for (int i = 0; i < R; ++i) y[i] = panel.template row<U>(row + i);
  const S* const* next = panel.sources + column;
  const std::int64_t lead = column == 0 || Simd::rows_below == 0 ? panel.ahead : 0;
  for (std::int64_t lane = 0; lane < sum_lanes; lane += Simd::lanes) {
    Vector t[C][C];
    Vector s[R + 1][C];
    const auto each_sum = [&](const auto& f) {
      for (int j = 0; triangle && j < C; ++j)  // bounds that do not vary keep t in registers
        for (int i = 0; i < C; ++i)
          if (i <= j) f(t[j][i], sums_of(panel.sums, column + j, column + i) + lane);
      for (int i = 0; i < R; ++i)
        for (int j = 0; j < C; ++j) f(s[i][j], sums_of(panel.sums, row + i, column + j) + lane);
    };
    each_sum([](Vector& x, const double* sum) { x = Simd::load(sum); });
    for (std::int64_t k = lane; k < panel.count; k += sum_lanes) {
      const int nearer = (k & sum_lanes) == 0 ? 0 : 2;
      Vector v[C];
      for (int j = 0; j < C; ++j) {
        if constexpr (triangle) prefetch(next[j] + k, (j < 2 ? lead : panel.ahead) >> nearer);
        v[j] = Simd::load(x[j] + k);
        if constexpr (keep && triangle)
          Simd::store(panel.wide + (column + j) * panel_stride + k, v[j]);
        for (int i = 0; triangle && i <= j; ++i) t[j][i] = Simd::fma(v[j], v[i], t[j][i]);
      }
      for (int i = 0; i < R; ++i) {
        if (triangle && i < 2) prefetch(next[C + i] + k, panel.ahead >> nearer);
        const Vector u = Simd::load(y[i] + k);
        if constexpr (keep) Simd::store(panel.wide + (row + i) * panel_stride + k, u);
        for (int j = 0; j < C; ++j) s[i][j] = Simd::fma(u, v[j], s[i][j]);
      }
    }
    each_sum([](const Vector& x, double* sum) { Simd::store(sum, x); });
  }
}

template <int value>
struct Number {
  static constexpr int number = value;
};

// Calls f with min(count, 4) as a compile-time number.
template <class F>
void with_number(std::int64_t count, const F& f) {
  switch (count) {
    case 1:
      return f(Number<1>{});
    case 2:
      return f(Number<2>{});
    case 3:
      return f(Number<3>{});
    default:
      return f(Number<4>{});
  }
}

// Four columns of the lower triangle of C: the triangle on the diagonal, together with the rows
// right below it where the registers suffice, then the rows below those, all read as X.
template <class S, class X, bool keep>
void band(const Panel<S>& panel, std::int64_t first) {
  using Columns = typename Choose<keep, double, X>::type;
  const std::int64_t left = panel.tasks - first - row_tile;
  if (left <= 0 || Simd::rows_below == 0) {
    with_number(left + row_tile, [&](auto c) {
      tile<S, X, X, decltype(c)::number, 0, true, keep>(panel, first, 0);
    });
  } else {
    with_number(left, [&](auto r) {
      tile<S, X, X, row_tile, decltype(r)::number, true, keep>(panel, first, first + row_tile);
    });
  }
  for (auto row = first + row_tile + Simd::rows_below; row < panel.tasks; row += Simd::tile_rows) {
    const auto rows = panel.tasks - row;
    with_number(rows < Simd::tile_rows ? rows : Simd::tile_rows, [&](auto r) {
      tile<S, Columns, X, row_tile, decltype(r)::number, false, keep>(panel, first, row);
    });
  }
}

// Widening once pays where a row meets many others: storing costs more than a few conversions.
template <class S>
void add_products(const Panel<S>& panel) {
  constexpr bool narrow = sizeof(S) < sizeof(double);
  if (!narrow || panel.tasks <= 2 * row_tile) {
    for (std::int64_t first = 0; first < panel.tasks; first += row_tile)
      band<S, S, false>(panel, first);
    return;
  }
  band<S, S, narrow>(panel, 0);
  for (auto first = row_tile; first < panel.tasks; first += row_tile)
    band<S, double, false>(panel, first);
}

// Part of d that is summed in one go: at most panel_width elements.
template <class T>
struct Strip {
  std::int64_t count;
  double* sums;
  T* out;
  bool streaming;      // write `out` past the caches
  std::int64_t ahead;  // bytes to the elements to prefetch
};

// Adds R tasks to a strip; the first group starts the sums, the last one rounds them.
template <class T, int R>
void add_weighted(const T* const* rows, const double* weights, const Strip<T>& strip, bool first,
                  bool last) {
  Vector w[R];
  for (int j = 0; j < R; ++j) w[j] = Simd::broadcast(weights[j]);
  const auto start = [&](std::int64_t k) {
    return first ? Simd::broadcast(0.0) : Simd::load(strip.sums + k);
  };
  std::int64_t k = 0;
  for (; k + Simd::lanes <= strip.count; k += Simd::lanes) {
    Vector s = start(k);
    for (int j = 0; j < R; ++j) {
      prefetch(rows[j] + k, strip.ahead);
      s = Simd::fma(w[j], Simd::load(rows[j] + k), s);
    }
    if (!last) {
      Simd::store(strip.sums + k, s);
    } else if (strip.streaming) {
      Simd::stream(strip.out + k, s);
    } else {
      Simd::store(strip.out + k, s);
    }
  }
  if (k == strip.count) return;
  const auto rest = static_cast<std::size_t>(strip.count - k) * sizeof(T);
  alignas(64) T tail[R][Simd::lanes] = {};
  Vector s = start(k);
  for (int j = 0; j < R; ++j) {
    __builtin_memcpy(tail[j], rows[j] + k, rest);
    s = Simd::fma(w[j], Simd::load(tail[j]), s);
  }
  if (!last) return Simd::store(strip.sums + k, s);
  Simd::store(tail[0], s);
  __builtin_memcpy(strip.out + k, tail[0], rest);
}

template <class T>
void weighted_sum(const void* const* sources, const double* weights, std::int64_t tasks,
                  std::int64_t count, void* out, bool streaming) {
  alignas(64) double sums[panel_width];
  const auto* rows = reinterpret_cast<const T* const*>(sources);
  const Strip<T> strip{.count = count,
                       .sums = sums,
                       .out = static_cast<T*>(out),
                       .streaming = streaming,
                       .ahead = tasks <= row_tile ? 0 : panel_width * std::int64_t{sizeof(T)}};
  for (std::int64_t j = 0; j < tasks; j += row_tile) {
    const bool first = j == 0;
    const bool last = j + row_tile >= tasks;
    switch (tasks - j) {
      case 1:
        add_weighted<T, 1>(rows + j, weights + j, strip, first, last);
        break;
      case 2:
        add_weighted<T, 2>(rows + j, weights + j, strip, first, last);
        break;
      case 3:
        add_weighted<T, 3>(rows + j, weights + j, strip, first, last);
        break;
      default:
        add_weighted<T, 4>(rows + j, weights + j, strip, first, last);
    }
  }
  if (streaming) Simd::fence();
}

// NaN and infinity are the numbers whose exponent is all ones: `exponent` has ones there alone.
template <class Bits>
bool finite(const void* source, std::int64_t count, Bits exponent) {
  const auto* x = static_cast<const unsigned char*>(source);
  Bits found = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    Bits bits;
    __builtin_memcpy(&bits, x + k * std::int64_t{sizeof(Bits)}, sizeof(Bits));
    found = static_cast<Bits>(found | static_cast<Bits>((bits & exponent) == exponent));
  }
  return found == 0;
}

// Calls f with the element type of `dtype`.
template <class F>
void with_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::float32:
      return f(Type<float>{});
    case DType::float64:
      return f(Type<double>{});
    case DType::bfloat16:
      return f(Type<BFloat16>{});
    case DType::float16:
      return f(Type<Float16>{});
  }
}

constexpr GramianKernels kernels{
    .name = Simd::name,
    .widen =
        [](const void* source, DType dtype, std::int64_t count, double* out) {
          with_type(dtype, [&](auto t) { widen<typename decltype(t)::type>(source, count, out); });
        },
    .add_products =
        [](const void* const* rows, DType dtype, std::int64_t tasks, std::int64_t count,
           std::int64_t ahead, double* wide, double* sums) {
          with_type(dtype, [&](auto t) {
            using S = typename decltype(t)::type;
            const auto* sources = reinterpret_cast<const S* const*>(rows);
            add_products<S>({sources, tasks, count, ahead, wide, sums});
          });
        },
    .weighted_sum =
        [](const void* const* rows, DType dtype, const double* weights, std::int64_t tasks,
           std::int64_t count, void* out, bool streaming) {
          with_type(dtype, [&](auto t) {
            weighted_sum<typename decltype(t)::type>(rows, weights, tasks, count, out, streaming);
          });
        },
    .finite =
        [](const void* source, DType dtype, std::int64_t count) {
          switch (dtype) {
            case DType::float32:
              return finite<std::uint32_t>(source, count, 0x7f800000u);
            case DType::float64:
              return finite<std::uint64_t>(source, count, 0x7ff0000000000000u);
            case DType::bfloat16:
              return finite<std::uint16_t>(source, count, 0x7f80u);
            case DType::float16:
              return finite<std::uint16_t>(source, count, 0x7c00u);
          }
          return false;
        }};
