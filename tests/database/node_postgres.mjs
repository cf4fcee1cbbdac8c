// node-postgres through a pool that has fewer connections than there are clients.

import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import Cursor from "pg-cursor";

const quick = process.env.QUICK === "1";
const authority = process.env.AUTHORITY ?? "";
const seconds = quick ? 2 : 10;
const clients = 64;
const largeRows = quick ? 20_000 : 100_000;
const patience = 120_000;

class Absent extends Error {}

const connect = async (options = {}) => {
  const client = new pg.Client({ host: process.env.PGHOST, ...options });
  await client.connect();
  return client;
};
const value = async (client, text, values) => Object.values((await client.query(text, values)).rows[0])[0];
const pause = (time) => new Promise((done) => setTimeout(done, time));

function expect(found, wanted) {
  const [one, two] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (one !== two) throw new Error(`found ${one?.slice(0, 300)} and not ${two?.slice(0, 300)}`);
}

async function refuses(code, promise) {
  const found = await promise.then(() => "nothing", (error) => error.code ?? error);
  expect(found, code);
}

const scenarios = {
  async connect() {
    const client = await connect({ application_name: "first", options: "-c geqo=off -c search_path=pg_catalog" });
    expect(await value(client, "SHOW application_name"), "first");
    expect(await value(client, "SHOW geqo"), "off");
    expect(await value(client, "SHOW search_path"), "pg_catalog");
    await client.end();
    await refuses("28P01", connect({ password: "wrong" }));
  },

  async tls() {
    if (!authority) throw new Absent("no TLS here");
    const client = await connect({ host: "localhost", ssl: { ca: readFileSync(authority, "utf8") } });
    expect((await value(client, "SELECT repeat('x', 1000000)")).length, 1000000);
    await client.end();
  },

  async simple() {
    const client = await connect();
    const results = await client.query("SELECT 1 AS a; SELECT 2 AS b; CREATE TEMP TABLE node_simple (n int)");
    expect(results.map((result) => result.command), ["SELECT", "SELECT", "CREATE"]);
    await refuses("42601", client.query("SELEKT 1"));
    expect(await value(client, "SELECT 3"), 3);
    await client.end();
  },

  async extended() {
    const client = await connect();
    const { rows } = await client.query("SELECT $1::int AS n, $2::text AS t", [7, "seven"]);
    expect(rows, [{ n: 7, t: "seven" }]);
    await refuses("22012", client.query("SELECT 1 / $1::int", [0]));
    expect((await value(client, "SELECT $1::bytea", [Buffer.alloc(1000000, 7)])).length, 1000000);
    await client.end();
  },

  async prepared() {
    const client = await connect();
    for (let turn = 0; turn < 3; turn += 1) {
      for (let n = 0; n < 100; n += 1) {
        expect(await value(client, { name: `node ${n}`, text: `SELECT $1::int + ${n} AS n`, values: [turn] }), turn + n);
      }
    }
    await refuses("22012", client.query({ name: "broken", text: "SELECT 1 / $1::int", values: [0] }));
    await refuses("42601", client.query({ name: "wrong", text: "SELEKT $1::int", values: [0] }));
    await client.end();
  },

  async cursor() {
    const client = await connect();
    const cursor = client.query(new Cursor("SELECT n FROM generate_series(1, $1::int) n", [1000]));
    let total = 0;
    for (let rows = await cursor.read(100); rows.length > 0; rows = await cursor.read(100)) {
      total += rows.reduce((sum, row) => sum + row.n, 0);
    }
    expect(total, 500500);
    await cursor.close();
    const early = client.query(new Cursor("SELECT n FROM generate_series(1, 1000) n"));
    expect((await early.read(2)).length, 2);
    await early.close();
    expect(await value(client, "SELECT 1"), 1);
    await client.end();
  },

  async transaction() {
    const client = await connect();
    await client.query("DROP TABLE IF EXISTS node_tx; CREATE TABLE node_tx (n int PRIMARY KEY)");
    await client.query("BEGIN READ ONLY");
    await refuses("25006", client.query("INSERT INTO node_tx VALUES (1)"));
    await refuses("25P02", client.query("SELECT 1"));
    expect((await client.query("COMMIT")).command, "ROLLBACK");
    await client.query("BEGIN ISOLATION LEVEL SERIALIZABLE");
    await client.query("INSERT INTO node_tx VALUES ($1)", [2]);
    await client.query("ROLLBACK");
    expect(await value(client, "SELECT count(*)::int FROM node_tx"), 0);
    await client.end();
  },

  async savepoint() {
    const client = await connect();
    await client.query("DROP TABLE IF EXISTS node_sp; CREATE TABLE node_sp (n int PRIMARY KEY)");
    await client.query("BEGIN");
    for (let n = 0; n < 20; n += 1) {
      await client.query("SAVEPOINT s");
      await client.query({ name: "insert", text: "INSERT INTO node_sp VALUES ($1)", values: [Math.floor(n / 2)] }).catch(async (error) => {
        expect(error.code, "23505");
        await client.query("ROLLBACK TO SAVEPOINT s");
      });
    }
    await client.query("COMMIT");
    expect(await value(client, "SELECT count(*)::int FROM node_sp"), 10);
    await client.end();
  },

  async pipeline() {
    // Without waiting for answers, as far as the driver lets one: it queues.
    const client = await connect();
    const found = await Promise.all(Array.from({ length: 500 }, (_, n) => value(client, "SELECT $1::int", [n])));
    expect(found, Array.from({ length: 500 }, (_, n) => n));
    await client.end();
  },

  async copy() {
    const client = await connect();
    await client.query("DROP TABLE IF EXISTS node_copy; CREATE TABLE node_copy (n int, t text)");
    const rows = Array.from({ length: 20_000 }, (_, n) => `${n}\trow ${n}\n`);
    await pipeline(Readable.from(rows), client.query(copyFrom("COPY node_copy FROM STDIN")));
    expect(await value(client, "SELECT sum(n)::int FROM node_copy"), 199990000);
    let bytes = 0;
    for await (const part of client.query(copyTo("COPY node_copy TO STDOUT"))) bytes += part.length;
    expect(bytes, rows.join("").length);
    await refuses("22P02", pipeline(Readable.from(["no number\trow\n"]), client.query(copyFrom("COPY node_copy FROM STDIN"))));
    expect(await value(client, "SELECT count(*)::int FROM node_copy"), 20000);
    await client.end();
  },

  async notices() {
    const [client, heard] = [await connect(), []];
    client.on("notice", (notice) => heard.push(notice.message));
    await client.query("DO $$ BEGIN RAISE NOTICE 'hear %', 1; END $$");
    expect(heard, ["hear 1"]);
    await client.end();
  },

  async types() {
    const client = await connect();
    const when = new Date("2024-02-29T12:30:45.123Z");
    const { rows } = await client.query(
      "SELECT $1::timestamptz AS at, $2::jsonb AS j, $3::int[] AS a, $4::text AS t, $5::numeric AS n, $6::bool AS b, $7::text AS nothing",
      [when, { a: [1, null] }, [1, 2, null], "é€𝄞'\"", "123456789.987654321", true, null]);
    const wanted = { at: when, j: { a: [1, null] }, a: [1, 2, null], t: "é€𝄞'\"", n: "123456789.987654321", b: true, nothing: null };
    expect(rows[0], wanted);
    await client.end();
  },

  async settings() {
    const [one, two] = [await connect(), await connect()];
    await one.query("SET timezone = 'Asia/Tokyo'; SET search_path = pg_catalog");
    for (let turn = 0; turn < 20; turn += 1) {
      expect(await value(one, "SHOW timezone"), "Asia/Tokyo");
      expect(await value(two, "SHOW search_path"), '"$user", public');
      expect(await value(one, "SHOW search_path"), "pg_catalog");
    }
    await one.end();
    await two.end();
  },

  async cancel() {
    const [one, two] = [await connect(), await connect()];
    const running = refuses("57014", one.query("SELECT pg_sleep(20)"));
    await pause(300);
    // The driver cancels by a query of another client.
    const found = await two.query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(20)%'");
    expect(found.rowCount > 0, true);
    await running;
    await one.end();
    await two.end();
  },

  async large() {
    const client = await connect();
    let bytes = 0;
    const text = `COPY (SELECT repeat('x', 999) FROM generate_series(1, ${largeRows})) TO STDOUT`;
    for await (const part of client.query(copyTo(text))) bytes += part.length;
    expect(bytes, largeRows * 1000);
    await client.end();
  },

  async two_phase() {
    const [one, two] = [await connect(), await connect()];
    await one.query("DROP TABLE IF EXISTS node_2pc; CREATE TABLE node_2pc (n int)");
    await one.query("BEGIN");
    await one.query("INSERT INTO node_2pc VALUES (1)");
    await one.query("PREPARE TRANSACTION 'node'");
    await two.query("COMMIT PREPARED 'node'");
    expect(await value(one, "SELECT count(*)::int FROM node_2pc"), 1);
    await one.end();
    await two.end();
  },

  async temporary() {
    const [one, two] = [await connect(), await connect()];
    for (const [client, n] of [[one, 1], [two, 2]]) {
      await client.query("CREATE TEMP TABLE node_temp (n int)");
      await client.query("INSERT INTO node_temp VALUES ($1)", [n]);
    }
    for (let turn = 0; turn < 10; turn += 1) {
      expect([await value(one, "SELECT n FROM node_temp"), await value(two, "SELECT n FROM node_temp")], [1, 2]);
    }
    await one.end();
    await two.end();
  },

  async locks() {
    const [one, two] = [await connect(), await connect()];
    await value(one, "SELECT pg_advisory_lock($1)", [4713]);
    expect(await value(two, "SELECT pg_try_advisory_lock($1)", [4713]), false);
    expect(await value(one, "SELECT pg_advisory_unlock($1)", [4713]), true);
    expect(await value(two, "SELECT pg_try_advisory_lock($1)", [4713]), true);
    await one.end();
    await two.end();
  },

  async timeout() {
    const [one, two] = [await connect({ statement_timeout: 200 }), await connect()];
    await refuses("57014", one.query("SELECT pg_sleep(20)"));
    expect(await value(two, "SELECT pg_sleep(0.4)::text"), "");
    expect(await value(two, "SHOW statement_timeout"), "0");
    await one.end();
    await two.end();
  },

  async pool() {
    const pool = new pg.Pool({ host: process.env.PGHOST, max: 20, idleTimeoutMillis: 50, maxUses: 7 });
    for (let turn = 0; turn < 5; turn += 1) {
      const found = await Promise.all(Array.from({ length: 64 }, (_, n) => value(pool, "SELECT $1::int", [n])));
      expect(found, Array.from({ length: 64 }, (_, n) => n));
    }
    await pool.end();
  },

  async ddl() {
    const [one, two] = [await connect(), await connect()];
    await one.query("DROP TABLE IF EXISTS node_ddl; CREATE TABLE node_ddl (a int); INSERT INTO node_ddl VALUES (1)");
    const read = (client, name) => client.query({ name, text: "SELECT * FROM node_ddl" });
    expect((await read(two, "one")).rows, [{ a: 1 }]);
    await one.query("ALTER TABLE node_ddl ADD b int DEFAULT 2");
    expect((await read(one, "two")).rows, [{ a: 1, b: 2 }]);
    await refuses("0A000", read(two, "one"));
    expect((await read(two, "other")).rows, [{ a: 1, b: 2 }]);
    await one.end();
    await two.end();
  },

  async notify() {
    const [one, two] = [await connect(), await connect()];
    const heard = [];
    one.on("notification", (notice) => heard.push([notice.channel, notice.payload]));
    await one.query("LISTEN node_heard");
    await two.query("NOTIFY node_heard, 'payload'");
    await two.query("SELECT pg_notify('node_heard', $1)", ["last"]);
    for (let turn = 0; turn < 100 && heard.length < 2; turn += 1) await pause(50);
    expect(heard, [["node_heard", "payload"], ["node_heard", "last"]]);
    await one.end();
    await two.end();
  },

  async many() {
    const first = await connect();
    await first.query("DROP TABLE IF EXISTS node_many; CREATE TABLE node_many (client int, turn int, PRIMARY KEY (client, turn))");
    await first.end();
    const until = Date.now() + seconds * 1000;
    await Promise.all(Array.from({ length: clients }, async (_, number) => {
      const client = await connect({ application_name: `client ${number}` });
      await client.query(`SET work_mem = '${3000 + number}kB'`);
      let turn = 0;
      for (; Date.now() < until;) {
        turn += 1;
        const values = await client.query({ name: "own", text: "SELECT $1::int AS n, current_setting('work_mem') AS m", values: [number] });
        expect(values.rows[0], { n: number, m: `${3000 + number}kB` });
        await client.query("BEGIN");
        await client.query({ name: "put", text: "INSERT INTO node_many VALUES ($1, $2)", values: [number, turn] });
        const found = { name: "max", text: "SELECT max(turn) FROM node_many WHERE client = $1", values: [number] };
        expect(await value(client, found), turn);
        await client.query("SAVEPOINT s");
        await refuses("22012", client.query({ name: "no", text: `SELECT 1 / ($1::int - $1::int), ${number}`, values: [turn] }));
        await client.query("ROLLBACK TO s");
        await client.query("COMMIT");
        expect(await value(client, "SHOW application_name"), `client ${number}`);
      }
      expect(await value(client, "SELECT count(*)::int FROM node_many WHERE client = $1", [number]), turn);
      await client.end();
    }));
  },
};

const wanted = process.argv.slice(2);
for (const [scenario, run] of Object.entries(scenarios)) {
  if (wanted.length > 0 && !wanted.includes(scenario)) continue;
  const start = Date.now();
  let [outcome, reason] = ["passed", ""];
  try {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("it took too long")), patience);
    });
    await Promise.race([run(), late]).finally(() => clearTimeout(timer));
  } catch (error) {
    [outcome, reason] = [error instanceof Absent ? "absent" : "failed", `${error.message} ${error.stack?.split("\n")[1] ?? ""}`];
  }
  console.log(JSON.stringify({ scenario, outcome, reason, seconds: (Date.now() - start) / 1000 }));
}
// What hangs must not keep the program.
process.exit(0);
