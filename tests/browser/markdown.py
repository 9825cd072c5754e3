"""What the page is given to render, and the scripts that look at how it does it."""

from typing import Final

HOSTILE: Final = """# <script>document.title='owned'</script>
<img src=x onerror="document.title='owned'"><svg onload=document.title='owned'>

[click](javascript:document.title='owned') [data](data:text/html,<script>alert(1)</script>) [file](file:///etc/passwd)
[obscured](java&#x73;cript:alert(1)) [spaced]( javascript:alert(1) ) [rel](/api/clients) [blob](blob:x) [vb](vbscript:x)
<javascript:alert(1)> <https://plain.example/> https://bare.example/x javascript:alert(1)
[good](https://good.example/a?b=1 "title\\" onmouseover=alert(1)") [mail](mailto:a@b.example)
![picture](https://tracker.example/p.png) ![none](javascript:alert(1)) ![data](data:image/svg+xml,<svg/onload=alert(1)>)

| <b>x</b> | y |
|---|--:|
| <iframe src=javascript:alert(1)> | `<script>` |

```"><script>document.title='owned'</script>
</code></pre><script>document.title='owned'</script>
```
[ref]: javascript:alert(1)
[ref] \u202eannexe\u202c

""" + (">" * 5000 + " deep\n\n" + "*" * 5000 + "a\n\n" + "[" * 5000 + "\n\n" + "- " * 3000 + "x\n")


TAGS: Final = {
    *("h3", "p", "a", "br", "span", "strong", "em", "blockquote", "ul", "li", "div"),
    *("table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "button", "pre", "code"),
}
TEXTS: Final = (
    "para one\nsame para\n\n- a\n- b\n\n  more of b\n\n1. x\n\n2. y\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nafter",
    "```py\ncode\n``\n  ```\n\ntext ``x`` ~~gone~~\n\n~~~~\n~~~\nstill\n~~~~\nend",
    "Title\n=====\n\nunder\n-----\n> quote\nlazy\n\n    indented\n    code\n\n***\n- [x](https://e.example)",
    "```\nnever closed\n\n# not a heading",
    "   ```js\n   indented fence\n     kept\n   ```\nend",
    "- ```sh\n  in a list\n  ```\n- next\n\ndone",
    "\n\n\nleading\r\nlines\r\n\r\nbreaks  \nhard",
)


# (a piece, the most that is looked at together, and for each piece)
LONG: Final = (
    ("word " * 9 + "end.\n\n", 200, 100),  # what models write: hardly anything is looked at twice
    ("```py\n" + "x = 1\n" * 30 + "```\n", 400, 400),
    ("x = 1\n", 40, 1),  # after an opening fence
    ("word " * 40, 8500, 8500),  # one block without an end costs no more than its bound
    ("- item\n" * 30, 8500, 8500),
)


RENDER: Final = """async ([text, size]) => {
    const { MarkdownStream } = await import("/pages/markdown.js");
    const place = document.createElement("div");
    document.body.append(place);
    const stream = new MarkdownStream(place);
    let longest = 0;
    for (let at = 0; at < text.length; at += size) {
        const began = performance.now();
        stream.push(text.slice(at, at + size));
        longest = Math.max(longest, performance.now() - began);
    }
    await stream.finish();
    const found = { html: place.cloneNode(true), text: place.textContent, longest };
    const shape = node => node.nodeType === 3 ? node.data
        : [node.localName, node.getAttribute("href") ?? node.getAttribute("start") ?? "",
           ...[...node.childNodes].map(shape)];
    place.querySelectorAll("button, .tail").forEach(element => element.remove());
    place.querySelectorAll(".part").forEach(part => part.replaceWith(...part.childNodes));
    place.querySelectorAll("code").forEach(code => code.replaceChildren(code.textContent));
    const shown = JSON.stringify(shape(place));
    place.remove();
    return shown;
}"""
COST: Final = """async ([block, times, start]) => {
    const { default: MarkdownIt } = await import("/pages/markdown-it.js");
    const { MarkdownStream } = await import("/pages/markdown.js");
    const place = document.createElement("div");
    document.body.append(place);
    const lengths = [];
    const { parse } = MarkdownIt.prototype;
    MarkdownIt.prototype.parse = function (text, references) {
        lengths.push(text.length);
        return parse.call(this, text, references);
    };
    // A frame for each piece.
    const { requestAnimationFrame: frames, setTimeout: later } = window;
    const waiting = [];
    window.requestAnimationFrame = window.setTimeout = (call) => waiting.push(call);
    const stream = new MarkdownStream(place);
    for (let n = 0; n < times; n += 1) {
        stream.push((n === 0 ? start : "") + block);
        while (waiting.length) waiting.shift()();
    }
    const finished = stream.finish();
    while (waiting.length) waiting.shift()();
    await finished;
    Object.assign(window, { requestAnimationFrame: frames, setTimeout: later });
    MarkdownIt.prototype.parse = parse;
    const found = [place.textContent, Math.max(...lengths), lengths.reduce((a, b) => a + b)];
    place.remove();
    return found;
}"""
