/** Starts the built server and the headless camera for the tests, on free ports and in a folder of their own. */
import {spawn} from 'node:child_process';
import {createSocket} from 'node:dgram';
import {once} from 'node:events';
import {writeFile} from 'node:fs/promises';
import {createServer} from 'node:net';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {eventually, folder} from './browser.js';

const RELEASE = fileURLToPath(new URL('../../target/release/', import.meta.url));

/** Short segments and parts of a second, so that what grows can be seen within a test. */
const SESSION = `apiVersion: media.streamsession.io/v1alpha1
kind: StreamSession
metadata:
  name: browser-tests
spec:
  exposure: {type: ClusterIP}
  limits: {maxPublishers: 4, maxSubscribersPerRoom: 40}
  recording: {enabled: true, segmentDuration: 2s, idleTimeout: 30s}
  auth: {mode: Open}
`;

/** `{url, stop, log}`. With BASE_URL in the environment that server is used, and not stopped. */
export async function start({session = SESSION} = {}) {
  if (process.env.BASE_URL) return {url: process.env.BASE_URL, stop: async () => {}, log: () => ''};
  const place = await folder();
  const document = join(place.path, 'session.yaml');
  await writeFile(document, session);
  const address = `127.0.0.1:${await freeTcp()}`;
  const url = `http://${address}`;
  const server = run(process.env.MEDIA_SERVER ?? join(RELEASE, 'media-server'),
    ['--http', address, '--udp-port', String(await freeUdp()), '--data-dir', place.path, '--session', document]);
  await eventually('the server is ready', async () => {
    if (server.process.exitCode !== null) throw new Error(`it ended: ${server.log()}`);
    return (await fetch(`${url}/readyz`)).ok;
  }, 15);
  return {
    url,
    log: server.log,
    stop: async () => {
      await server.stop();
      await place.clean();
    },
  };
}

/** The headless camera: plays files into a room until `stop()`. */
export function camera(url, room, {video, audio = null, args = []}) {
  return run(process.env.MEDIA_CLIENT ?? join(RELEASE, 'media-client'),
    ['camera', `${url}/whip/${room}`, '--video', video, ...(audio ? ['--audio', audio] : []), '--loop', ...args]);
}

function run(program, args) {
  const process = spawn(program, args, {stdio: ['ignore', 'pipe', 'pipe']});
  const lines = [];
  for (const stream of [process.stdout, process.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text) => lines.push(text));
  }
  process.on('error', (error) => lines.push(`${program}: ${error.message}`));
  return {
    process,
    log: () => lines.join('').slice(-4000),
    stop: async () => {
      if (process.exitCode !== null || process.signalCode !== null || !process.pid) return;
      const ended = once(process, 'exit');
      process.kill('SIGTERM');
      const late = setTimeout(() => process.kill('SIGKILL'), 15_000);
      await ended;
      clearTimeout(late);
    },
  };
}

async function freeTcp() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const {port} = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function freeUdp() {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const {port} = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}
