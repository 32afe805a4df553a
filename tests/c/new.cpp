// Every form of operator new and delete, bad_alloc, nothrow and the new-handler.
#include "t.h"
#include <algorithm>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

static const std::align_val_t A64{64}, A4096{4096}, A2M{2u << 20};

static void all_forms()
{
	for (std::size_t size : {0ul, 1ul, 24ul, 100ul, 5000ul, 70000ul, 3000000ul}) {
		void *p;
#define FORM(make, drop)                                                              \
	for (int i = 0; i < 40; i++) {                                                \
		p = make;                                                             \
		HIDE(p);                                                              \
		CHECK(p && malloc_usable_size(p) >= size);                            \
		memset(p, 0x77, size);                                                \
		drop;                                                                 \
	}
		FORM(::operator new(size), ::operator delete(p));
		FORM(::operator new(size), ::operator delete(p, size));
		FORM(::operator new(size), ::operator delete(p, std::nothrow));
		FORM(::operator new[](size), ::operator delete[](p));
		FORM(::operator new[](size), ::operator delete[](p, size));
		FORM(::operator new[](size), ::operator delete[](p, std::nothrow));
		FORM(::operator new(size, std::nothrow), ::operator delete(p));
		FORM(::operator new[](size, std::nothrow), ::operator delete[](p));
		for (std::align_val_t a : {std::align_val_t{1}, std::align_val_t{16}, A64, A4096, A2M}) {
			FORM(::operator new(size, a), CHECK((uintptr_t)p % (size_t)a == 0); ::operator delete(p, a));
			FORM(::operator new(size, a), CHECK((uintptr_t)p % (size_t)a == 0); ::operator delete(p, size, a));
			FORM(::operator new(size, a, std::nothrow), ::operator delete(p, a, std::nothrow));
			FORM(::operator new[](size, a), CHECK((uintptr_t)p % (size_t)a == 0); ::operator delete[](p, a));
			FORM(::operator new[](size, a), ::operator delete[](p, size, a));
			FORM(::operator new[](size, a, std::nothrow), ::operator delete[](p, a, std::nothrow));
		}
		// new and malloc are one heap.
		FORM(::operator new(size), free(p));
		FORM(malloc(size), ::operator delete(p));
	}
	void *none = nullptr;
	HIDE(none);
	::operator delete(none);
	::operator delete[](none, A64);
	::operator delete(none, 10);
}

template <class F> static bool throws(F f)
{
	try {
		void *p = f();
		HIDE(p);
	} catch (const std::bad_alloc &) {
		return true;
	}
	return false;
}

static int calls;
static void *reserve;

static void gives_up_after_three()
{
	if (++calls == 3)
		std::set_new_handler(nullptr);
}

struct own_error : std::bad_alloc {};
static void throws_own() { throw own_error(); }

// std::bad_alloc flies through frames that own things.
struct guard {
	int *count;
	~guard() { ++*count; }
};

// libstdc++'s own aligned forms wrap around near SIZE_MAX; zonal's do not.
static std::size_t largest = SIZE_MAX - KIB(64);

static void out_of_memory()
{
	std::size_t huge = PTRDIFF_MAX, most = largest;
	HIDE(huge);
	HIDE(most);
	for (std::size_t n : {huge, most, most - 4096, (std::size_t)1 << 62}) {
		CHECK(throws([&] { return ::operator new(n); }));
		CHECK(throws([&] { return ::operator new[](n); }));
		CHECK(throws([&] { return ::operator new(n, A64); }));
		CHECK(throws([&] { return ::operator new[](n, A4096); }));
		CHECK(::operator new(n, std::nothrow) == nullptr);
		CHECK(::operator new[](n, std::nothrow) == nullptr);
		CHECK(::operator new(n, A64, std::nothrow) == nullptr);
		CHECK(::operator new[](n, A64, std::nothrow) == nullptr);
	}
	int unwound = 0;
	for (int i = 0; i < 100; i++) {
		std::string kept(100, 'x');
		CHECK(throws([&] { guard g{&unwound}; return ::operator new(huge); }));
	}
	CHECK(unwound == 100);

	// The handler is asked again and again until it gives up.
	std::set_new_handler(gives_up_after_three);
	CHECK(throws([&] { return ::operator new(huge); }) && calls == 3);
	calls = 0;
	std::set_new_handler(gives_up_after_three);
	CHECK(::operator new(huge, std::nothrow) == nullptr && calls == 3);
	calls = 0;
	std::set_new_handler(gives_up_after_three);
	CHECK(throws([&] { return ::operator new(huge, A4096); }) && calls == 3);

	// What the handler throws reaches the caller, or becomes null in the nothrow forms.
	std::set_new_handler(throws_own);
	bool own = false;
	try {
		void *p = ::operator new(huge);
		HIDE(p);
	} catch (const own_error &) {
		own = true;
	}
	CHECK(own && ::operator new(huge, std::nothrow) == nullptr && ::operator new[](huge, A64, std::nothrow) == nullptr);
	std::set_new_handler(nullptr);

	// malloc never asks the handler.
	calls = 0;
	std::set_new_handler(gives_up_after_three);
	void *p = malloc(huge);
	HIDE(p);
	CHECK(!p && calls == 0);
	std::set_new_handler(nullptr);
}

// A handler that frees a reserve: the request is tried again and succeeds.
static void frees_reserve()
{
	free(reserve);
	reserve = nullptr;
	std::set_new_handler(nullptr);
}

static void handler_makes_room()
{
	struct rlimit old, tight;
	reserve = malloc(MIB(300));
	CHECK(reserve);
	memset(reserve, 1, MIB(300));
	unsigned long pages = 0;
	FILE *statm = fopen("/proc/self/statm", "r");
	CHECK(statm && fscanf(statm, "%lu", &pages) == 1);
	fclose(statm);
	getrlimit(RLIMIT_AS, &old);
	tight = old;
	tight.rlim_cur = pages * 4096 + MIB(100);
	CHECK(setrlimit(RLIMIT_AS, &tight) == 0);
	std::set_new_handler(frees_reserve);
	char *p = static_cast<char *>(::operator new(MIB(200)));
	CHECK(p && reserve == nullptr);
	memset(p, 2, MIB(200));
	::operator delete(p);
	setrlimit(RLIMIT_AS, &old);
}

struct alignas(256) wide {
	char bytes[256];
};

static void containers()
{
	std::vector<std::unique_ptr<wide>> many;
	std::map<std::string, std::vector<int>> map;
	thread_local std::vector<std::string> local;

	for (int i = 0; i < 5000; i++) {
		many.push_back(std::make_unique<wide>());
		CHECK((uintptr_t)many.back().get() % 256 == 0);
		map[std::to_string(i * 7919 % 5000) + std::string(i % 50, '-')].resize(i % 200, i);
		local.push_back(std::string(i % 300, 'y'));
	}
	std::vector<std::thread> threads;
	for (int t = 0; t < 4; t++)
		threads.emplace_back([&] {
			thread_local std::vector<std::string> own;
			for (int i = 0; i < 20000; i++)
				own.push_back(std::string(i % 100, 'z'));
			std::sort(own.begin(), own.end());
			CHECK(own.back().size() == 99);
		});
	for (auto &t : threads)
		t.join();
	std::size_t total = 0;
	for (auto &[key, value] : map)
		for (int v : value)
			total += v >= 0;
	CHECK(map.size() == 5000 && total == 497500);
}

int main(int, char **argv)
{
	if (t_long(argv, "zonal", 0))
		largest = SIZE_MAX;
	all_forms();
	out_of_memory();
	handler_makes_room();
	containers();
	return 0;
}
