-- A table built, indexed, joined and grouped in memory.
CREATE TABLE orders (id INTEGER PRIMARY KEY, client INTEGER, item TEXT, price REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120000)
INSERT INTO orders SELECT i, i * 7919 % 4001, 'item ' || (i * 104729 % 997), i * 31 % 1000 / 7.0 FROM n;
CREATE INDEX by_client ON orders (client);
CREATE INDEX by_item ON orders (item, price);
CREATE TABLE clients AS SELECT client, count(*) AS n, sum(price) AS total FROM orders GROUP BY client;
SELECT count(*), max(total) FROM clients JOIN orders USING (client) WHERE item LIKE 'item 1%';
UPDATE orders SET item = upper(item) || hex(client) WHERE id % 3 = 0;
SELECT item, group_concat(client) FROM orders WHERE id % 50 = 0 GROUP BY item ORDER BY length(item) LIMIT 3;
DELETE FROM orders WHERE id % 2 = 0;
SELECT count(*) FROM orders;
