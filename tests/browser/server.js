/** Starts the built server and the headless camera for the tests, on free ports and in a folder of their own. */
import {spawn} from 'node:child_process';
import {createSocket} from 'node:dgram';
import {once} from 'node:events';
import {writeFile} from 'node:fs/promises';
import {createServer} from 'node:net';
import {networkInterfaces} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {eventually, folder} from './browser.js';

const RELEASE = fileURLToPath(new URL('../../target/release/', import.meta.url));
/** The headless camera and viewer. */
export const MEDIA_CLIENT = process.env.MEDIA_CLIENT ?? join(RELEASE, 'media-client');

/** Short segments and parts of a second, so that what grows can be seen within a test. */
const SESSION = `apiVersion: media.streamsession.io/v1alpha1
kind: StreamSession
metadata:
  name: browser-tests
spec:
  exposure: {type: ClusterIP}
  limits: {maxPublishers: 4, maxSubscribersPerRoom: 40}
  recording: {enabled: true, segmentDuration: 2s, maxDuration: 24h, idleTimeout: 30s}
  auth: {mode: Open}
`;

/** `{url, stop, log}`. With BASE_URL in the environment that server is used, and not stopped. */
export async function start({session = SESSION, env = {}} = {}) {
  if (process.env.BASE_URL) return {url: process.env.BASE_URL, stop: async () => {}, log: () => ''};
  const place = await folder();
  const document = join(place.path, 'session.yaml');
  await writeFile(document, session);
  const address = `127.0.0.1:${await freeTcp()}`;
  const url = `http://${address}`;
  const server = run(process.env.MEDIA_SERVER ?? join(RELEASE, 'media-server'),
    ['--http', address, '--udp-port', String(await freeUdp()), '--data-dir', place.path, '--session', document], env);
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
  return run(MEDIA_CLIENT,
    ['camera', `${url}/whip/${room}`, '--video', video, ...(audio ? ['--audio', audio] : []), '--loop', ...args]);
}

/**
 * A coturn at this machine's own address, which may reach that address alone, as `{env, account, log, stop}`: `env` has a server
 * tell of it.
 */
export async function relay() {
  const addresses = Object.values(networkInterfaces()).flat();
  const own = addresses.find(({family, internal}) => family === 'IPv4' && !internal)?.address;
  if (!own) throw new Error('the relay needs an IPv4 address besides the loopback');
  const account = {username: 'browser-tests', credential: 'north-north-north'};
  const port = await freeUdp(own);
  const place = await folder();
  const server = run(process.env.TURNSERVER ?? 'turnserver', ['-n', '--no-cli', '--no-tls', '--no-dtls', '--no-tcp', '--listening-ip', own,
    '--listening-port', String(port), '--relay-ip', own, '--realm', 'tests.example', '--lt-cred-mech', '--user', `${account.username}:${account.credential}`,
    '--denied-peer-ip', '0.0.0.0-255.255.255.255', '--allowed-peer-ip', own, '--log-file', 'stdout', '--simple-log',
    '--pidfile', join(place.path, 'pid'), '--userdb', join(place.path, 'users')]);
  await eventually('the relay answers', async () => {
    if (server.process.exitCode !== null) throw new Error(`it ended: ${server.log()}`);
    return answersStun(port, own);
  }, 15);
  return {
    account,
    env: {TURN_URLS: `turn:${own}:${port}?transport=udp`, TURN_USERNAME: account.username, TURN_CREDENTIAL: account.credential},
    log: server.log,
    stop: async () => {
      await server.stop();
      await place.clean();
    },
  };
}

function run(program, args, env = {}) {
  const child = spawn(program, args, {stdio: ['ignore', 'pipe', 'pipe'], env: {...process.env, ...env}});
  const lines = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text) => lines.push(text));
  }
  child.on('error', (error) => lines.push(`${program}: ${error.message}`));
  return {
    process: child,
    log: () => lines.join('').slice(-4000),
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null || !child.pid) return;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      const late = setTimeout(() => child.kill('SIGKILL'), 15_000);
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

/** Whether a STUN binding request (RFC 8489 §2) is answered. */
async function answersStun(port, address) {
  const socket = createSocket('udp4');
  const request = Buffer.alloc(20);
  request.writeUInt16BE(1, 0);
  request.writeUInt32BE(0x2112a442, 4);
  try {
    socket.send(request, port, address);
    await once(socket, 'message', {signal: AbortSignal.timeout(200)});
    return true;
  } catch {
    return false;
  } finally {
    socket.close();
  }
}

async function freeUdp(address = '127.0.0.1') {
  const socket = createSocket('udp4').bind(0, address);
  await once(socket, 'listening');
  const {port} = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}
