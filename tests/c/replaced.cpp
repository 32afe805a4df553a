// A program that replaces the two operators that C++ asks for, with a header in front of each object:
// all other forms, and those that libraries call, must come to these two.
#include "t.h"
#include <map>
#include <memory>
#include <new>
#include <sstream>
#include <string>
#include <vector>

static const uint64_t MARK = 0x7e57ab1e;
struct header {
	uint64_t mark;
	size_t size;
};
static long live, made;

void *operator new(std::size_t size)
{
	header *h = static_cast<header *>(malloc(sizeof(header) + size));

	if (!h)
		throw std::bad_alloc();
	*h = {MARK, size};
	live++;
	made++;
	return h + 1;
}

void operator delete(void *object) noexcept
{
	header *h = static_cast<header *>(object) - 1;

	if (!object)
		return;
	CHECK(h->mark == MARK);
	h->mark = 0;
	live--;
	free(h);
}

int main()
{
	for (int i = 0; i < 50; i++) {
		long before = made;
#define FORM(make, drop)                              \
	do {                                          \
		void *p = make;                       \
		HIDE(p);                              \
		CHECK(p && live == 1);                \
		drop;                                 \
		CHECK(live == 0);                     \
	} while (0)
		FORM(::operator new(40), ::operator delete(p));
		FORM(::operator new(40), ::operator delete(p, 40));
		FORM(::operator new(40), ::operator delete(p, std::nothrow));
		FORM(::operator new(40, std::nothrow), ::operator delete(p, 40));
		FORM(::operator new[](40), ::operator delete[](p));
		FORM(::operator new[](40), ::operator delete[](p, 40));
		FORM(::operator new[](40, std::nothrow), ::operator delete[](p, std::nothrow));
		CHECK(made == before + 7);
		// Those with an alignment stand on nothing that was replaced.
		void *p = ::operator new[](40, std::align_val_t{64});
		HIDE(p);
		CHECK((uintptr_t)p % 64 == 0 && live == 0);
		::operator delete[](p, 40, std::align_val_t{64});
		p = ::operator new(40, std::align_val_t{64}, std::nothrow);
		HIDE(p);
		::operator delete(p, std::align_val_t{64}, std::nothrow);

		std::map<std::string, std::vector<int>> words;
		for (int n = 0; n < 200; n++)
			words["a key too long for its own place " + std::to_string(n)].assign(n, n);
		std::ostringstream text;
		text << std::string(5000, 'x') << words.size();
		CHECK(text.str().size() == 5003 && live > 200);
	}
	CHECK(live == 0);
}
