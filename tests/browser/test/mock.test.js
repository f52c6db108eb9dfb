/** The mock is only worth something while it tells what the server tells: the same members, the same words. */
import assert from 'node:assert/strict';
import {after, before, describe, test} from 'node:test';
import {encoded, eventually, folder} from '../browser.js';
import {refusal, world} from '../mock/server.js';
import {camera, start} from '../server.js';

describe('mock', () => {
  let server;
  let files;
  let source;
  const get = async (path) => (await fetch(server.url + path)).json();

  before(async () => {
    files = await folder();
    server = await start();
    source = camera(server.url, 'form', await encoded(files.path, {codec: 'vp8', seconds: 2}));
  });

  after(async () => {
    await source?.stop();
    await server?.stop();
    await files?.clean();
  });

  /** Every path of members in `value`: `live.publisher.bitrateBps`. */
  function members(value, path = '') {
    if (Array.isArray(value)) return value.flatMap((each) => members(each, `${path}[]`));
    if (value === null || typeof value !== 'object') return [path];
    return Object.entries(value).flatMap(([name, each]) => [path ? `${path}.${name}` : name, ...members(each, path ? `${path}.${name}` : name)]);
  }

  const unknown = (told, known) => {
    const names = new Set(known.flatMap((each) => members(each)));
    return [...new Set(told.flatMap((each) => members(each)))].filter((name) => !names.has(name));
  };

  test('streams, recordings and the setup have no member that the server does not have', async () => {
    const {streams, recordings, config} = world();
    const live = await eventually('the camera is live', async () => (await get('/streams')).streams.find((each) => each.live?.publisher?.videoCodec));
    assert.deepEqual(unknown(streams.map((each) => ({...each, trouble: []})), [live]), []);
    assert.ok(Array.isArray(live.trouble));
    const found = await eventually('it is recorded', async () => (await get('/recordings')).recordings[0]);
    const [gap] = recordings.flatMap(({gaps}) => gaps);
    assert.deepEqual(unknown(recordings.map((each) => ({...each, gaps: []})), [{...found, gaps: []}]), []);
    const {GapView, TroubleInfo} = (await get('/openapi.json')).components.schemas;
    for (const trouble of streams.flatMap((each) => each.trouble ?? [])) assert.deepEqual(Object.keys(trouble).sort(), Object.keys(TroubleInfo.properties).sort());
    assert.deepEqual(Object.keys(gap).sort(), Object.keys(GapView.properties).sort());
    assert.deepEqual(Object.keys(config).sort(), Object.keys(await get('/config.json')).sort());
  });

  for (const kind of ['no-publisher', 'room-busy', 'subscribers-full', 'publishers-full', 'storage-unavailable', 'token-missing', 'token-invalid', 'scope-missing', 'room-not-granted', 'unsupported-offer']) {
    test(`${kind} has the server's title, and a page`, async () => {
      const {problem} = refusal(kind);
      const response = await fetch(server.url + problem.type);
      assert.equal(response.status, 200);
      assert.ok((await response.text()).includes(problem.title), problem.title);
    });
  }
});
