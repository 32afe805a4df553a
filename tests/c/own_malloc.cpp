// A program with a malloc of its own, which everybody gets: operator new, reallocarray and the C library
// must, too, and give the memory back to its free.
#include "t.h"
#include <map>
#include <new>
#include <sstream>
#include <string>
#include <vector>

static char pool[256u << 20];
static size_t used;
static long live, foreign;

static bool is_own(void *object)
{
	return static_cast<char *>(object) >= pool && static_cast<char *>(object) < pool + sizeof pool;
}

extern "C" {
void *malloc(size_t size)
{
	size_t at = __atomic_fetch_add(&used, (size + 31) & ~15ul, __ATOMIC_RELAXED);

	if (size > sizeof pool || at > sizeof pool - size - 32) {
		errno = ENOMEM;
		return NULL;
	}
	*reinterpret_cast<size_t *>(pool + at) = size;
	live++;
	return pool + at + 16;
}

void free(void *object)
{
	if (object && !is_own(object))
		foreign++;
	live -= object != NULL;
}

void *calloc(size_t count, size_t size)
{
	return malloc(count * size);
}

void *realloc(void *object, size_t size)
{
	void *moved = malloc(size);

	if (object && !is_own(object))
		foreign++;
	else if (moved && object) {
		size_t before = static_cast<size_t *>(object)[-2];

		memcpy(moved, object, before < size ? before : size);
		free(object);
	}
	return moved;
}

void *aligned_alloc(size_t align, size_t size)
{
	uintptr_t object = reinterpret_cast<uintptr_t>(malloc(size + align));

	return reinterpret_cast<void *>((object + align - 1) & ~(align - 1));
}
}

struct alignas(64) line {
	char bytes[100];
};

int main()
{
	long before = live;

	for (int i = 0; i < 20; i++) {
		std::map<std::string, std::vector<int>> words;
		for (int n = 0; n < 200; n++)
			words["a key too long for its own place " + std::to_string(n)].assign(n, n);
		std::ostringstream text;
		text << std::string(5000, 'x') << words.size();
		CHECK(live > before + 200);
		delete[] new int[50];
		delete[] new (std::nothrow) int[50];
		delete new line;
		delete[] new line[5];
		delete new (std::nothrow) line;
		// What libraries mix.
		free(::operator new(30));
		::operator delete(malloc(30), 30);
		void *p = reallocarray(NULL, 10, 10);
		CHECK(is_own(p));
		p = reallocarray(p, 100, 10);
		CHECK(is_own(p));
		free(p);
	}
	CHECK(live == before);
	try {
		HIDE(used);
		void *p = ::operator new(sizeof pool + 1);
		HIDE(p);
		FAIL("memory beyond the pool");
	} catch (const std::bad_alloc &) {
	}
	if (foreign)
		FAIL("%ld blocks from elsewhere", foreign);
}
