// Numbers by latent and by image, as views of one buffer; see report/packing.py.

const VIEWS = { u1: Uint8Array, i1: Int8Array, i2: Int16Array, i4: Int32Array, f4: Float32Array };

async function unpackArrays(id) {
  const content = await unpacked(id).arrayBuffer();
  const length = new DataView(content).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 4, length)));
  const body = content.slice(4 + length);
  const found = {};
  for (const [name, [kind, start, shape]] of Object.entries(header)) {
    const numbers = new VIEWS[kind](body, start, shape.reduce((product, n) => product * n, 1));
    found[name] = { numbers, shape, size: shape.slice(1).reduce((product, n) => product * n, 1) };
  }
  return found;
}

const arrays = await unpackArrays("array-data");
document.getElementById("array-data").remove();

// The numbers of one row of an array; none where the page has no such array.
const rowsOf = (name, row) => {
  const array = arrays[name];
  return array ? array.numbers.subarray(row * array.size, (row + 1) * array.size) : [];
};
const numberOf = (name, row) => (arrays[name] ? arrays[name].numbers[row] : null);

const imageIds = arrays.image_ids ? [...arrays.image_ids.numbers] : [];
const placeOf = new Map(imageIds.map((id, place) => [id, place]));
const className = (c) => (c >= 0 && c < data.records.length ? data.records[c].name : "");
