/**
 * RTP payloads of encoded frames: H264 (RFC 6184, single units and FU-A), VP8 (RFC 7741), VP9 (RFC 9628, flexible mode), AV1 (the
 * payload format of AOMedia, one OBU a packet) and Opus (RFC 7587). The last payload of a picture takes the marker.
 */

/** Bytes of the largest payload. */
const LIMIT = 1150;

const TEMPORAL_DELIMITER = 2;

/** Returns the payloads of one frame. `{codec, data, key}`: H264 as MP4 has it, AV1 as OBUs with sizes. `picture` counts frames. */
export function payloads({codec, data, key}, picture) {
  switch (codec) {
    case 'h264': return units(data).flatMap(h264);
    case 'vp8': return chunks(data, LIMIT).map((part, index) => Buffer.concat([Buffer.of(index === 0 ? 0x10 : 0), part]));
    case 'vp9': return vp9(data, key, picture);
    case 'av1': return av1(data, key);
    default: return [data];
  }
}

function chunks(data, size) {
  return Array.from({length: Math.ceil(data.length / size)}, (_, index) => data.subarray(index * size, (index + 1) * size));
}

/** NAL units behind lengths of four bytes. */
function units(data) {
  const found = [];
  for (let at = 0; at < data.length;) {
    const size = data.readUInt32BE(at);
    found.push(data.subarray(at + 4, at + 4 + size));
    at += 4 + size;
  }
  return found;
}

function h264(unit) {
  if (unit.length <= LIMIT) return [unit];
  const parts = chunks(unit.subarray(1), LIMIT);
  return parts.map((part, index) => {
    const bounds = (index === 0 ? 0x80 : 0) | (index === parts.length - 1 ? 0x40 : 0);
    return Buffer.concat([Buffer.of((unit[0] & 0xe0) | 28, bounds | (unit[0] & 0x1f)), part]);
  });
}

/** Each frame refers to the one before, but for key frames. */
function vp9(data, key, picture) {
  const parts = chunks(data, LIMIT);
  return parts.map((part, index) => {
    const flags = 0x90 | (key ? 0 : 0x40) | (index === 0 ? 0x08 : 0) | (index === parts.length - 1 ? 0x04 : 0);
    const id = 0x8000 | (picture & 0x7fff);
    return Buffer.concat([Buffer.of(flags, id >> 8, id & 0xff, ...(key ? [] : [0x02])), part]);
  });
}

function av1(data, key) {
  const packets = obus(data).flatMap((obu) => {
    const parts = chunks(obu, LIMIT);
    return parts.map((part, index) => ({part, flags: 0x10 | (index > 0 ? 0x80 : 0) | (index < parts.length - 1 ? 0x40 : 0)}));
  });
  return packets.map(({part, flags}, index) => Buffer.concat([Buffer.of(flags | (key && index === 0 ? 0x08 : 0)), part]));
}

/** The OBUs of a temporal unit without their size fields. */
function obus(data) {
  const found = [];
  for (let at = 0; at < data.length;) {
    const header = data.subarray(at, at + (data[at] & 0x04 ? 2 : 1));
    if (!(data[at] & 0x02)) throw new Error('an OBU without a size');
    let size = 0;
    at += header.length;
    for (let shift = 0; ; shift += 7) {
      const byte = data[at++];
      size |= (byte & 0x7f) << shift;
      if (!(byte & 0x80)) break;
    }
    const sized = Buffer.concat([header, data.subarray(at, at + size)]);
    sized[0] &= ~0x02;
    if (((sized[0] >> 3) & 0x0f) !== TEMPORAL_DELIMITER) found.push(sized);
    at += size;
  }
  return found;
}
