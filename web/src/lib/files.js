/** Files that a person attaches: text only, read here and put into the message. */

const LARGEST = 512_000; // bytes; a small model's window holds far less

/** Return {name, text} of each file that is text, and a sentence for each that is not. */
export async function readTexts(list) {
  const [texts, refused] = [[], []];
  for (const file of list) {
    if (file.size > LARGEST) {
      refused.push(`${file.name} is larger than ${LARGEST / 1000} kB.`);
      continue;
    }
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
      if (text.includes("\0")) throw new Error("binary");
      texts.push({ name: file.name, text });
    } catch {
      refused.push(`${file.name} is no text; only text files can be attached.`);
    }
  }
  return { texts, refused };
}
