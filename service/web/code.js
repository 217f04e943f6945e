// Code: programs that ask the same of this very service.

import { Service } from "./service.js";

/** Return the program in a language; with a key, it names the variable that holds it, never the key. */
export function program(language, withKey) {
  const address = Service.address("predict");
  return PROGRAMS[language](address, withKey);
}

const PROGRAMS = {
  curl: (address, key) => {
    const header = key ? ` \\\n  -H "X-API-Key: $MANET_API_KEY"` : "";
    return `curl -F image=@face.jpg${header} \\\n  ${address}`;
  },
  python: (address, key) =>
    [
      ...(key ? ["import os", ""] : []),
      "import httpx",
      "",
      'with open("face.jpg", "rb") as image:',
      "    answer = httpx.post(",
      `        "${address}",`,
      '        files={"image": image},',
      ...(key ? ['        headers={"X-API-Key": os.environ["MANET_API_KEY"]},'] : []),
      "    )",
      "answer.raise_for_status()",
      'for face in answer.json()["faces"]:',
      '    print(face["expression"], face["confidence"])',
    ].join("\n"),
  javascript: (address, key) =>
    [
      'import { openAsBlob } from "node:fs";',
      "",
      "const form = new FormData();",
      'form.append("image", await openAsBlob("face.jpg"), "face.jpg");',
      `const answer = await fetch("${address}", {`,
      '  method: "POST",',
      "  body: form,",
      ...(key ? ['  headers: { "X-API-Key": process.env.MANET_API_KEY },'] : []),
      "});",
      "for (const face of (await answer.json()).faces) {",
      "  console.log(face.expression, face.confidence);",
      "}",
    ].join("\n"),
};

/** Shows the program of the chosen language and copies it. */
export class Code {
  #snippet;
  #withKey = false;

  constructor({ languages, snippet, copy, copied }) {
    this.#snippet = snippet;
    this.languages = languages;
    languages.addEventListener("change", () => {
      copied.textContent = "";
      this.#show();
    });
    copy.addEventListener("click", async () => {
      copied.textContent = await this.#copy();
    });
    this.#show();
  }

  /** From now on the programs send a key. */
  needsKey() {
    this.#withKey = true;
    this.#show();
  }

  #show() {
    const language = this.languages.querySelector("input:checked").value;
    this.#snippet.textContent = program(language, this.#withKey);
  }

  async #copy() {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(this.#snippet.textContent);
      return "Copied.";
    }
    // Pages over plain http have no clipboard.
    getSelection().selectAllChildren(this.#snippet);
    return "Selected: now copy it with your keyboard.";
  }
}
