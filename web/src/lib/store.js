/**
 * Conversations, kept in this browser (IndexedDB) and nowhere else.
 *
 * Titles stand in a table of their own, so that the list needs no answer with its tokens to be read. Where the
 * browser refuses storage (private windows may), conversations live in memory until the tab is closed.
 */

const memory = new Map();
const titleOf = ({ id, title, updated }) => ({ id, title, updated });

function connect() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open("twofold", 1);
    asked.onupgradeneeded = () => {
      asked.result.createObjectStore("titles", { keyPath: "id" });
      asked.result.createObjectStore("conversations", { keyPath: "id" });
    };
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = asked.onblocked = () => reject(asked.error);
  });
}

let database;

/** Do `work(titles, conversations)` in one transaction; return the result of the request that it returns. */
async function transact(mode, work) {
  database ??= connect();
  const transaction = (await database).transaction(["titles", "conversations"], mode);
  const asked = work(transaction.objectStore("titles"), transaction.objectStore("conversations"));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(asked.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** Return {id, title, updated} of all conversations, the latest first. */
export async function titles() {
  const kept = await transact("readonly", (titles) => titles.getAll()).catch(() => []);
  return [...[...memory.values()].map(titleOf), ...kept].sort((a, b) => b.updated - a.updated);
}

/** Return a conversation, or undefined. */
export async function get(id) {
  return memory.get(id) ?? transact("readonly", (_, conversations) => conversations.get(id)).catch(() => undefined);
}

/** Keep a conversation; return whether it outlives the tab. */
export async function put(conversation) {
  try {
    await transact("readwrite", (titles, conversations) => {
      titles.put(titleOf(conversation));
      return conversations.put(conversation);
    });
    memory.delete(conversation.id);
    return true;
  } catch {
    memory.set(conversation.id, conversation);
    return false;
  }
}

/** Forget a conversation. */
export async function remove(id) {
  memory.delete(id);
  await transact("readwrite", (titles, conversations) => {
    titles.delete(id);
    return conversations.delete(id);
  }).catch(() => {});
}
