// A plain C++ program: what it and its libraries make in one form they may drop in another.
#include "t.h"
#include <map>
#include <new>
#include <sstream>
#include <string>
#include <vector>

int main()
{
	for (int i = 0; i < 20; i++) {
		std::map<std::string, std::vector<int>> words;
		for (int n = 0; n < 200; n++)
			words["a key too long for its own place " + std::to_string(n)].assign(n, n);
		std::ostringstream text;
		text << std::string(5000, 'x') << words.size();
		CHECK(text.str().size() == 5003);
		delete[] new int[50];
		delete[] new (std::nothrow) int[50];
		delete new (std::nothrow) int;
		free(::operator new(30));
		free(::operator new[](30, std::nothrow));
		::operator delete(malloc(30), 30);
		::operator delete[](malloc(30));
		void *p = reallocarray(NULL, 10, 10);
		free(reallocarray(p, 100, 10));
	}
}
