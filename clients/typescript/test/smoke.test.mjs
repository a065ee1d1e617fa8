// Against a running service at PRECIS_URL; tests/clients/test_typescript.py starts one.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { test } from "node:test";

import { Precis, PrecisError } from "../dist/index.js";

const picture = async () => new File([await readFile(process.env.PICTURE)], "red.png");

test("a picture is stored, found, asked about and deleted", async () => {
  const precis = new Precis();
  const [stored] = await precis.add([await picture()], { metadata: { place: "Zürich" } });
  assert.equal(stored.status, "created");
  const [hit] = await precis.search("something red", { limit: 1, where: '{"place": "Zürich"}' });
  assert.equal(hit.id, stored.id);
  assert.equal(hit.metadata.place, "Zürich");
  const query = { id_prefix: stored.id.slice(0, 4) };
  const { data: page } = await precis.api.GET("/images", { params: { query } });
  assert.deepEqual(page.images.map((image) => image.id), [stored.id]);
  const answer = await precis.ask("What?", { image_ids: [stored.id] });
  assert.equal(answer.answer, "I see red.");
  const pieces = precis.askInPieces("What?", { image_ids: [stored.id] });
  let text = "";
  let step = await pieces.next();
  for (; !step.done; step = await pieces.next()) text += step.value;
  assert.equal(text, answer.answer);
  assert.equal(step.value.answer, answer.answer);
  const { response } = await precis.api.DELETE("/images/{image_id}", {
    params: { path: { image_id: stored.id } },
  });
  assert.equal(response.status, 204);
});

test("a collection is a library of its own", async () => {
  const precis = new Precis();
  await precis.api.PUT("/collections/{name}", { params: { path: { name: "pets" } } });
  const pets = new Precis({ collection: "pets" });
  await pets.add([await picture()]);
  assert.equal((await pets.search("red")).length, 1);
  assert.deepEqual(await precis.search("red"), []);
});

test("a refusal is an error with the service's words", async () => {
  const precis = new Precis();
  const file = new File(["no picture"], "a.png");
  await assert.rejects(precis.add([file]), (error) => {
    assert(error instanceof PrecisError);
    assert.equal(error.status, 415);
    return true;
  });
  await assert.rejects(precis.askInPieces("?".repeat(3000)).next(), PrecisError);
});

test("a busy service is asked again, after the pause that it names", async () => {
  const statuses = [429, 503, 504, 200];
  const bodies = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    bodies.push(body);
    const status = statuses[bodies.length - 1];
    response.writeHead(status, { "Retry-After": "0", "Content-Type": "application/json" });
    response.end(JSON.stringify({ answer: "Yes.", title: "busy" }));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const precis = new Precis({ url: `http://127.0.0.1:${server.address().port}` });
    assert.equal((await precis.ask("Is it red?")).answer, "Yes.");
    assert.equal(bodies.length, 4);
    assert.equal(new Set(bodies).size, 1);
    assert.match(bodies[3], /Is it red/);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
