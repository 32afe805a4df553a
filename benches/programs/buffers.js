// Buffers and maps: node's own heap is its own, but buffers and its C++ parts use malloc.
const kept = [];
for (let i = 0; i < 150000; i++) {
  const b = Buffer.alloc(100 + ((i * 7919) % 4000), i & 255);
  if (i % 50 === 0) kept.push(b);
  if (kept.length > 1000) kept.splice(0, 500);
}
const zlib = require('zlib');
let total = 0;
for (let i = 0; i < 150; i++) total += zlib.deflateSync(Buffer.concat(kept.slice(0, 40))).length;
console.error(kept.length, total);
