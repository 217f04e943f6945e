// Service: the one call that the page makes, and what can go wrong with it.

/** What went wrong, after RFC 9457. */
export class Problem extends Error {
  /** @param {{type: string, title: string, status: number, detail: string, retryAfter: number | null}} facts */
  constructor({ type, title, status, detail, retryAfter = null }) {
    super(detail);
    Object.assign(this, { type, title, status, retryAfter });
  }
}

/** Asks the service; holds the API key, in memory only. */
export class Service {
  key = "";

  /** Return the whole address of a path, which is relative to the page: a gateway may have put it anywhere. */
  static address(path) {
    return new URL(path, document.baseURI).href;
  }

  /**
   * Return the answer for one image, and the milliseconds of each stage.
   *
   * Throws a Problem; an AbortError when `signal` fires.
   */
  async predict(blob, signal) {
    const form = new FormData();
    form.append("image", blob, "image");
    const response = await this.#send("predict", { method: "POST", body: form, signal });
    return { answer: await response.json(), stages: stages(response.headers.get("Server-Timing")) };
  }

  /** Return what is loaded. Throws a Problem. */
  async model() {
    return (await this.#send("model", {})).json();
  }

  async #send(path, options) {
    const headers = this.key ? { "X-API-Key": this.key } : {};
    let response;
    try {
      response = await fetch(Service.address(path), { ...options, headers, credentials: "same-origin" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem({ type: "unreachable", title: "Unreachable", status: 0, detail: error.message });
    }
    if (!response.ok) throw await problemOf(response);
    return response;
  }
}

async function problemOf(response) {
  const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const known = { status: response.status, retryAfter: Number.isNaN(wait) ? null : wait };
  if (!response.headers.get("Content-Type")?.startsWith("application/problem+json")) {
    return new Problem({ type: "about:blank", title: "The service failed", detail: `status ${response.status}`, ...known });
  }
  const { type, title, detail } = await response.json();
  return new Problem({ type, title, detail, ...known });
}

function stages(header) {
  const found = [...(header ?? "").matchAll(/(\w+);dur=([\d.]+)/g)];
  return Object.fromEntries(found.map(([, name, milliseconds]) => [name, Number(milliseconds)]));
}
