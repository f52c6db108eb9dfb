/** Networks that let nothing but a relay through: a picture soon all the same; and where it is not needed nobody asks for it. */
import assert from 'node:assert/strict';
import {after, afterEach, before, describe, test} from 'node:test';
import {encoded, eventually, folder, launch, movingPicture} from '../browser.js';
import {camera, relay, start} from '../server.js';

/** Milliseconds from POST to the first frame; without a restart before ICE gives up it would be more than eight seconds. */
const FIRST_FRAME = 4000;
const JOINS = 5;

// A server that runs already tells of no relay of ours.
describe('relay', {skip: Boolean(process.env.BASE_URL)}, () => {
  let turn;
  let server;
  let browser;
  let files;
  let source;
  let open = [];

  before(async () => {
    files = await folder();
    turn = await relay();
    server = await start({env: turn.env});
    browser = await launch({camera: await movingPicture(files.path)});
    const {video, audio} = await encoded(files.path, {codec: 'h264', seconds: 10});
    source = camera(server.url, 'door', {video, audio});
    await eventually('the camera is live', async () => (await (await fetch(`${server.url}/streams?room=door`)).json()).streams.some(({publishing}) => publishing));
  });

  afterEach(async () => {
    for (const each of open.reverse()) await each();
    open = [];
  });

  after(async () => {
    await browser?.close();
    await source?.stop();
    await server?.stop();
    await turn?.stop();
    await files?.clean();
  });

  /** A page whose connections use nothing but a relay while `window.onlyRelay` is true; `changes` has its POSTs and PATCHes. */
  async function page(path, {onlyRelay}) {
    const context = await browser.newContext({permissions: ['camera', 'microphone']});
    open.push(() => context.close());
    const opened = await context.newPage();
    opened.changes = [];
    opened.on('request', (request) => ['POST', 'PATCH'].includes(request.method()) && opened.changes.push(request.method()));
    await opened.addInitScript((only) => {
      const Native = window.RTCPeerConnection;
      window.onlyRelay = only;
      window.connections = [];
      window.RTCPeerConnection = class extends Native {
        constructor(configuration = {}) {
          super(window.onlyRelay ? {...configuration, iceTransportPolicy: 'relay'} : configuration);
          window.connections.push(this);
        }
      };
    }, onlyRelay);
    await opened.goto(new URL(path, server.url).href);
    return opened;
  }

  /** Kinds of the local candidates: the one in use, and all. */
  const candidates = (opened) => opened.evaluate(async () => {
    const stats = [...(await window.connections.at(-1).getStats()).values()];
    const transport = stats.find(({type}) => type === 'transport');
    const pair = stats.find(({id}) => id === transport?.selectedCandidatePairId);
    return {
      used: stats.find(({id}) => id === pair?.localCandidateId)?.candidateType,
      all: stats.filter(({type}) => type === 'local-candidate').map(({candidateType}) => candidateType),
    };
  });

  const timing = (viewer) => viewer.evaluate(() => ({...document.querySelector('whep-player').player.timing}));
  const shown = (viewer) => eventually('a picture', async () => {
    const {post, connected, firstFrame} = await timing(viewer);
    return firstFrame && {connected: Math.round(connected - post), firstFrame: Math.round(firstFrame - post)};
  }, 30);

  test(`through a relay alone the first frame is there within ${FIRST_FRAME} ms of the POST`, async () => {
    const joins = [];
    for (let join = 0; join < JOINS; join += 1) {
      const viewer = await page('/watch/door', {onlyRelay: true});
      joins.push(await shown(viewer));
      assert.equal((await candidates(viewer)).used, 'relay');
      assert.deepEqual(viewer.changes, ['POST', 'PATCH']);
      await viewer.context().close();
    }
    const times = (name) => joins.map((each) => each[name]).join(' ');
    console.log(`through a relay, POST to first frame, ms: ${times('firstFrame')}; connected ${times('connected')}`);
    for (const {firstFrame} of joins) assert.ok(firstFrame <= FIRST_FRAME, `${firstFrame} ms`);
  });

  test('a camera page that only a relay lets through is live as soon', async () => {
    const publisher = await page('/publish/studio', {onlyRelay: true});
    const started = Date.now();
    await publisher.getByRole('button', {name: 'Start'}).click();
    await publisher.getByText('You are live').waitFor({timeout: 30_000});
    const took = Date.now() - started;
    console.log(`a camera through a relay was live ${took} ms after the press`);
    assert.equal((await candidates(publisher)).used, 'relay');
    assert.deepEqual(publisher.changes, ['POST', 'PATCH']);
    assert.ok(took <= FIRST_FRAME, `${took} ms`);
  });

  test('where a direct path answers no relay is asked and nothing is restarted', async () => {
    const viewer = await page('/watch/door', {onlyRelay: false});
    const posted = viewer.waitForResponse((response) => response.request().method() === 'POST');
    await viewer.reload();
    assert.match((await posted).headers().link, /^<turn:.*rel="ice-server"/);
    const {firstFrame} = await shown(viewer);
    viewer.changes.length = 0;
    const {frames: at} = await viewer.evaluate(() => document.querySelector('whep-player').player.stats()).then(({video}) => video);
    // Well past the time after which relays would have been asked.
    await eventually('90 frames more', async () => (await viewer.evaluate(() => document.querySelector('whep-player').player.stats())).video.frames > at + 90);
    const {used, all} = await candidates(viewer);
    console.log(`with a relay at hand, directly, POST to first frame: ${firstFrame} ms`);
    assert.notEqual(used, 'relay');
    assert.ok(!all.includes('relay'), all.join());
    assert.deepEqual(viewer.changes, []);
  });

  test('credentials of an earlier answer that are no longer good give way to those of the newest', async () => {
    const viewer = await page('about:blank', {onlyRelay: false});
    const sessions = [];
    await viewer.route('**/whep/door', async (route) => {
      const response = await route.fetch();
      const headers = {...response.headers()};
      // The first answer's are wrong, as those of long ago are.
      if (sessions.length === 0) headers.link = headers.link.replace(turn.account.credential, 'south-south-south');
      sessions.push(new URL(headers.location, server.url).href);
      await route.fulfill({response, headers});
    });
    await viewer.goto(`${server.url}/watch/door`);
    await shown(viewer);
    await viewer.evaluate(() => (window.onlyRelay = true));
    assert.ok((await fetch(sessions[0], {method: 'DELETE'})).ok);
    await eventually('another session', () => sessions.length === 2);
    const {firstFrame} = await shown(viewer);
    console.log(`after a session with other credentials, POST to first frame: ${firstFrame} ms`);
    const servers = await viewer.evaluate(() => window.connections.map((pc) => pc.getConfiguration().iceServers.map(({credential}) => credential)));
    assert.deepEqual(servers.at(-1), [turn.account.credential]);
    assert.equal((await candidates(viewer)).used, 'relay');
    assert.ok(firstFrame <= FIRST_FRAME, `${firstFrame} ms`);
    assert.equal(sessions.length, 2);
  });
});
