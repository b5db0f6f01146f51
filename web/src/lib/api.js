/**
 * Talking to the server this page came from, and to no other.
 *
 * Every failure becomes an ApiError whose message is a sentence for the person; a request that the person
 * stopped throws the browser's own AbortError, which `stopped` tells apart.
 */

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Whether the person ended it: no error to show. */
export const stopped = (error) => error?.name === "AbortError";

// The key lives as long as the tab: it is a password, and localStorage is for ever.
let key = null;
try {
  key = sessionStorage.getItem("twofold.key");
} catch {
  // no storage: it is asked for again
}

let askForKey = async () => null;

/** Say who asks the person for the key when the server wants one. `ask()` returns a promise of it, or of null. */
export function whenKeyIsWanted(ask) {
  askForKey = ask;
}

/** Return the Response of a request. `body` is sent as JSON. Raises ApiError. */
export async function request(path, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json, text/event-stream", "X-Twofold": "app" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const sent = key;
  if (sent) headers.Authorization = `Bearer ${sent}`;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (stopped(error)) throw error;
    throw new ApiError("The server does not answer. Is `twofold serve` still running?");
  }
  if (response.status === 401) {
    // Another request may have been given a key in the meantime.
    const given = key !== sent ? key : await askForKey(Boolean(sent));
    if (given) {
      key = given;
      try {
        sessionStorage.setItem("twofold.key", key);
      } catch {
        // kept in memory only
      }
      return request(path, { method, body, signal });
    }
  }
  if (!response.ok) throw new ApiError(await reason(response), response.status);
  return response;
}

/** Return the JSON of an answer, or null when there is none (204). Raises ApiError. */
export async function json(path, options) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json();
}

/** Yield the parsed `data:` of a stream of server-sent events, until it ends or says [DONE]. Raises ApiError. */
export async function* events(path, options) {
  const response = await request(path, options);
  let line = "";
  let data = [];
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      line += decoder.decode(value, { stream: !done });
      const lines = (done ? line + "\n\n" : line).split(/\r\n|\n|\r(?!$)/);
      line = lines.pop();
      for (const text of lines) {
        if (text.startsWith("data:")) data.push(text.slice(text[5] === " " ? 6 : 5));
        if (text !== "" || data.length === 0) continue;
        const event = data.join("\n");
        data = [];
        if (event === "[DONE]") return;
        const parsed = JSON.parse(event);
        if (parsed.error) throw new ApiError(sentence(parsed.error));
        yield parsed;
      }
      if (done) return;
    }
  } catch (error) {
    if (stopped(error) || error instanceof ApiError) throw error;
    throw new ApiError("The connection to the server broke off.");
  } finally {
    reader.cancel().catch(() => {}); // leaving early tells the server to stop
  }
}

const sentence = (error) => (typeof error === "string" ? error : (error.message ?? JSON.stringify(error)));

async function reason(response) {
  const text = await response.text().catch(() => "");
  try {
    const { error, detail } = JSON.parse(text);
    return sentence(error ?? detail);
  } catch {
    return text && text.length < 300 && !text.startsWith("<") ? text : `The server answered ${response.status}.`;
  }
}

/** Let the browser save `text` as a file. Nothing is sent. */
export function save(name, text, type = "application/jsonl") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
