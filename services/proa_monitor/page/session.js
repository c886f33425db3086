// The reader's key: kept for this tab alone, sent as a bearer token, never part of an address.

const PLACE = "proa-key";

/** An answer that is none; `status` 0 when the monitor could not be reached. */
export class Refusal extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

export function key() {
  return sessionStorage.getItem(PLACE);
}

export function signIn(text) {
  sessionStorage.setItem(PLACE, text);
}

export function signOut() {
  sessionStorage.removeItem(PLACE);
}

/** The JSON of a path of this monitor.
 *  Throws Refusal: another status than 200, no answer, or a key that cannot be sent. */
export async function ask(path, signal) {
  let answer;
  try {
    answer = await fetch(path, {
      headers: { authorization: `Bearer ${key() ?? ""}` },
      credentials: "omit",
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The monitor cannot be reached. What is shown may be old.");
  }
  if (answer.ok) return answer.json();
  const body = await answer.json().catch(() => ({}));
  const said = body.error ?? body;
  throw new Refusal(answer.status, said.message ?? `The monitor answered ${answer.status}.`, said.hint);
}
