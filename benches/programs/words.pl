# Hashes of arrays of strings that grow and are dropped.
use strict;
use warnings;

my %index;
my $seed = 1;
for my $line (1 .. 60_000) {
    my @words = map { $seed = ($seed * 1103515245 + 12345) % 2147483648; 'w' . ($seed % 9973) } 1 .. 8;
    push @{ $index{$_} }, "$line:" . join(' ', @words[0 .. 2]) for @words;
    if ($line % 20_000 == 0) {
        delete $index{$_} for grep { /7$/ } keys %index;
    }
}
my $text = join ',', map { scalar @{ $index{$_} } } sort keys %index;
print STDERR length($text), "\n";
