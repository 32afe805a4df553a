// Standard containers and regular expressions: what a C++ compiler allocates most for.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <regex>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N> struct Level {
    std::map<int, std::vector<std::unique_ptr<Level<N - 1>>>> below;
    std::unordered_map<std::string, std::variant<int, double, std::string>> values;
    int count() const {
        int sum = static_cast<int>(values.size());
        for (const auto& [key, list] : below)
            for (const auto& one : list)
                sum += key + one->count();
        return sum;
    }
};
template <> struct Level<0> {
    int count() const { return 1; }
};

int main(int argc, char** argv) {
    Level<12> top;
    std::regex word("[a-z]+(-[a-z]+)*");
    std::vector<std::function<bool(const std::string&)>> tests;
    tests.emplace_back([&](const std::string& s) { return std::regex_match(s, word); });
    return top.count() + static_cast<int>(std::count_if(argv, argv + argc, [&](char* a) { return tests[0](a); }));
}
