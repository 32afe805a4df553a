// Objects that operator new and delete hand out and take back by hits alone, for benches/gate.py.
//
//   operators new|sized BYTES PAIRS
#include <cstdlib>
#include <cstring>
#include <new>

int main(int, char **argv)
{
	bool sized = !std::strcmp(argv[1], "sized");
	std::size_t size = std::strtoul(argv[2], nullptr, 10);

	for (long left = std::strtol(argv[3], nullptr, 10); left > 0; left--) {
		void *object = ::operator new(size);

		__asm__ volatile("" : "+r"(object) : : "memory");
		if (sized)
			::operator delete(object, size);
		else
			::operator delete(object);
	}
}
