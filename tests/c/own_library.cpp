// A plugin that has the C++ library inside.
#include <map>
#include <new>
#include <string>
#include <vector>

extern "C" int words(int n)
{
	std::map<std::string, std::vector<int>> words;

	for (int i = 0; i < n; i++)
		words["a key too long for its own place " + std::to_string(i)].assign(i, i);
	delete[] new (std::nothrow) int[50];
	struct alignas(64) line {
		char bytes[100];
	};
	delete new line;
	delete[] new line[3];
	return words.size();
}
