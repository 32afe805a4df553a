#!/usr/bin/env python3
"""Draws resident memory over time, one line for each allocator: plot.py OUTPUT.svg NAME=FILE..."""
import sys

COLOURS = ["#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#7f7f7f"]
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960, 460, 60, 40, 60


def read(path):
    rows = [line.split() for line in open(path)]
    return [(float(t), float(mib), phase) for t, mib, phase in rows]


def main():
    output, lines = sys.argv[1], [arg.split("=", 1) for arg in sys.argv[2:]]
    series = [(name, read(path)) for name, path in lines]
    end = max(t for _, points in series for t, _, _ in points)
    top = max(mib for _, points in series for _, mib, _ in points) * 1.05
    x = lambda t: LEFT + t / end * (WIDTH - LEFT - 20)
    y = lambda mib: HEIGHT - BOTTOM - mib / top * (HEIGHT - TOP - BOTTOM)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">Resident memory in MiB over seconds: load, burst, idle, load</text>',
    ]
    for i in range(5):
        mib = top * i / 4
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(mib):.1f}" y2="{y(mib):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(mib) + 4:.1f}" text-anchor="end">{mib:.0f}</text>')
    for t in range(int(end) + 1):
        out.append(f'<text x="{x(t):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{t}</text>')
    for i, (name, points) in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{x(t):.1f},{y(mib):.1f}" for t, mib, _ in points)
        width = 2.5 if i == 0 else 1.2
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        out.append(f'<rect x="{LEFT + 110 * i}" y="{HEIGHT - 26}" width="14" height="4" fill="{colour}"/>')
        out.append(f'<text x="{LEFT + 110 * i + 20}" y="{HEIGHT - 20}">{name}</text>')
    out.append("</svg>")
    with open(output, "w") as file:
        file.write("\n".join(out) + "\n")


main()
