import { openAsBlob } from "node:fs";
import createClient from "openapi-fetch";
import type { paths } from "./manet.js";

const client = createClient<paths>({ baseUrl: "http://127.0.0.1:8000" });
const form = new FormData();
form.set("image", await openAsBlob("face.jpg"));
// openapi-typescript has no type for a file in a form.
const { data, error } = await client.POST("/predict", { body: form as never });
if (error) throw new Error(`${error.type}: ${error.detail}`);
for (const face of data.faces) console.log(face.expression, face.confidence.toFixed(2));
