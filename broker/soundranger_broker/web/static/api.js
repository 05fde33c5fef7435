// Asks the server, and turns its refusals into errors that say what is wrong.

const ROOT = "api/1/";

export const address = (path, query = "") => ROOT + path + (query ? `?${query}` : "");

export async function ask(path, query = "") {
  return answer(await fetch(address(path, query)));
}

export async function tell(path, body) {
  const headers = { "Content-Type": "application/json" };
  return answer(await fetch(address(path), { method: "POST", headers, body: JSON.stringify(body) }));
}

async function answer(response) {
  const body = await response.json().catch(() => null);
  if (response.ok) return body;
  // Refusals are problem documents (RFC 9457); a proxy in between may say something else.
  throw new Error(body?.detail ?? body?.title ?? `The server answers ${response.status}.`);
}
