/**
 * A WHIP publisher: camera, microphone or screen to `/whip/{room}`, kept up by itself as the player's connection is: after a
 * loss it posts again as the same identity, and the viewers go on.
 *
 * Rules: RFC 9725; mst-content-hint for `contentHint` and `degradationPreference`.
 */
import {Connection, askStereo} from './player.js';

/** What a person can choose; `automatic` prefers H.264, since every browser plays it live and every player from a file. */
export const CODECS = {automatic: ['H264', 'VP8'], h264: ['H264'], vp8: ['VP8'], vp9: ['VP9'], av1: ['AV1']};

/** The names in CODECS that this browser can send. */
export function sendableCodecs() {
  const able = RTCRtpSender.getCapabilities?.('video')?.codecs.map((codec) => codec.mimeType.split('/')[1].toUpperCase()) ?? [];
  return Object.keys(CODECS).filter((name) => CODECS[name].some((codec) => able.includes(codec)));
}

export class Publisher extends Connection {
  #senders = {};

  /**
   * `bitrate` is the video's ceiling in bits per second; `prefer` is `sharp` (under a slow network frames are dropped, and the
   * size, so the recording's initialisation segment, stays) or `smooth`.
   */
  constructor(url, {token = null, stream, codec = 'automatic', bitrate = 2_500_000, prefer = 'sharp'}) {
    super(url, {token});
    this.stream = stream;
    this.codec = codec;
    this.bitrate = bitrate;
    this.prefer = prefer;
  }

  prepare(pc) {
    this.#senders = {};
    for (const track of this.stream.getTracks()) {
      const video = track.kind === 'video';
      const transceiver = pc.addTransceiver(track, {
        direction: 'sendonly',
        streams: [this.stream],
        sendEncodings: [{maxBitrate: video ? this.bitrate : isStereo(track) ? 128_000 : 64_000}],
      });
      this.#senders[track.kind] = transceiver.sender;
      if (!video) continue;
      this.#order(transceiver);
      this.#degrade(transceiver.sender);
    }
  }

  /** The server answers Opus with the parameters of the offer, and browsers send two channels only to who answers `stereo=1`. */
  adapt(sdp) {
    return this.stream.getAudioTracks().some(isStereo) ? askStereo(sdp) : sdp;
  }

  established() {
    this.report('connected', 'You are live');
  }

  explain(error) {
    if (error.kind === 'room-busy') return 'Another camera sends into this room. Yours starts when that one stops; or use another room.';
    if (error.kind === 'publishers-full') return 'No more cameras fit on this server. Yours starts when another one stops.';
    if (error.kind === 'draining') return 'The server is being restarted. Your picture goes on by itself.';
    if (['waiting', 'full', 'unreachable'].includes(error.state)) return `${error.message}. Trying again…`;
    if (error.kind === 'token-invalid') return 'This access token is not valid, or has expired. Use a new one.';
    if (error.kind === 'room-not-granted') return 'This access token is for another room.';
    if (error.status === 401) return 'Publishing to this room needs an access token.';
    if (error.status === 403) return 'This access token does not allow publishing. Ask for one with the scope publish.';
    return error.message;
  }

  /** Sends another track of the same kind without a new session. False: the kind was not sent so far. */
  async replace(track) {
    const sender = this.#senders[track.kind];
    const old = this.stream.getTracks().find((other) => other.kind === track.kind);
    if (old) this.stream.removeTrack(old);
    this.stream.addTrack(track);
    if (!sender) return false;
    await sender.replaceTrack(track);
    return true;
  }

  async limit(bitrate) {
    this.bitrate = bitrate;
    const sender = this.#senders.video;
    if (!sender) return;
    const parameters = sender.getParameters();
    for (const encoding of parameters.encodings ?? []) encoding.maxBitrate = bitrate;
    await sender.setParameters(parameters).catch(() => {});
  }

  /** Wanted codecs first; the rest stay in the offer, so that a server without the wanted one still answers. */
  #order(transceiver) {
    const wanted = CODECS[this.codec] ?? CODECS.automatic;
    const codecs = RTCRtpSender.getCapabilities?.('video')?.codecs ?? [];
    const rank = ({mimeType, sdpFmtpLine = ''}) => {
      const place = wanted.indexOf(mimeType.split('/')[1].toUpperCase());
      return (place < 0 ? wanted.length : place) * 2 + (sdpFmtpLine.includes('packetization-mode=0') ? 1 : 0);
    };
    try {
      transceiver.setCodecPreferences?.([...codecs].sort((a, b) => rank(a) - rank(b)));
    } catch {
      // A browser that refuses its own list keeps its own order.
    }
  }

  #degrade(sender) {
    const parameters = sender.getParameters();
    parameters.degradationPreference = this.prefer === 'smooth' ? 'maintain-framerate' : 'maintain-resolution';
    sender.setParameters(parameters).catch(() => {});
  }
}

function isStereo(track) {
  return track.getSettings().channelCount === 2;
}
