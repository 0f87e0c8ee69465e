-- Shows the tutorial's two protocols in Wireshark and tshark: JSON-header messages and padded text.
--
--   tshark -i lo -X lua_script:examples/wireshark/myriapod.lua -f 'tcp port 65432' -Y myriapod
--   tshark -r capture.pcap -X lua_script:… -T fields -e myriapod.content_type -e myriapod.text
--   tshark -r capture.pcap -X lua_script:… -Y myriapod.error        only what is malformed
--
-- For Wireshark itself, copy this file to the folder that Help > About > Folders calls
-- "Personal Lua Plugins". JSON-header messages are recognized on every port, and on 65432 whatever
-- they look like; padded ones on 5050. Analyze > Decode As and the preferences know others.
--
-- Runs with Lua 5.2 (Wireshark 4.0 and 4.2) and 5.4.

local json_proto = Proto("myriapod", "JSON-header message")
local padded_proto = Proto("myriapod_padded", "Padded text message")

json_proto.prefs.ports = Pref.range("TCP ports", "65432", "Where JSON-header messages are expected", 65535)
json_proto.prefs.max_header = Pref.uint("Longest header", 4096, "Bytes; a longer one is malformed")
json_proto.prefs.max_content = Pref.uint("Longest content", 1048576, "Bytes; a longer one is malformed")
padded_proto.prefs.ports = Pref.range("TCP ports", "5050", "The server's port", 65535)
padded_proto.prefs.max_content = Pref.uint("Longest text", 1048576, "Bytes; a longer one is malformed")

local f = {
    header_length = ProtoField.uint16("myriapod.header_length", "Length of the header"),
    header = ProtoField.string("myriapod.header", "Header", base.UNICODE),
    byteorder = ProtoField.string("myriapod.byteorder", "byteorder", base.UNICODE),
    content_type = ProtoField.string("myriapod.content_type", "content-type", base.UNICODE),
    content_encoding = ProtoField.string("myriapod.content_encoding", "content-encoding", base.UNICODE),
    content_length = ProtoField.uint32("myriapod.content_length", "content-length"),
    extra = ProtoField.string("myriapod.extra", "Further key", base.UNICODE),
    extra_key = ProtoField.string("myriapod.extra.key", "Key", base.UNICODE),
    extra_value = ProtoField.string("myriapod.extra.value", "Value", base.UNICODE),
    content = ProtoField.bytes("myriapod.content", "Content"),
    text = ProtoField.string("myriapod.text", "Text", base.UNICODE),
    error = ProtoField.string("myriapod.error", "Malformed"),
    error_header = ProtoField.string("myriapod.error.header", "Key", base.UNICODE),
    undecoded = ProtoField.bytes("myriapod.undecoded", "Behind a malformed message"),
}
local p = {
    length = ProtoField.string("myriapod_padded.length", "Length", base.ASCII),
    text = ProtoField.string("myriapod_padded.text", "Text", base.UNICODE),
    reply = ProtoField.string("myriapod_padded.reply", "Reply", base.UNICODE),
    error = ProtoField.string("myriapod_padded.error", "Malformed"),
    undecoded = ProtoField.bytes("myriapod_padded.undecoded", "Behind a malformed message"),
}
local malformed = ProtoExpert.new("myriapod.malformed", "Malformed message", expert.group.MALFORMED, expert.severity.ERROR)
local padded_malformed = ProtoExpert.new("myriapod_padded.malformed", "Malformed message", expert.group.MALFORMED, expert.severity.ERROR)

local function values(fields)
    local list = {}
    for _, field in pairs(fields) do list[#list + 1] = field end
    return list
end
json_proto.fields = values(f)
padded_proto.fields = values(p)
json_proto.experts = { malformed }
padded_proto.experts = { padded_malformed }

-- Text ------------------------------------------------------------------------------------------

-- A code point as UTF-8.
local function encode(point)
    local function continuation(shift) return 0x80 + math.floor(point / shift) % 0x40 end
    if point < 0x80 then return string.char(point) end
    if point < 0x800 then return string.char(0xc0 + math.floor(point / 0x40), continuation(1)) end
    if point < 0x10000 then
        return string.char(0xe0 + math.floor(point / 0x1000), continuation(0x40), continuation(1))
    end
    return string.char(0xf0 + math.floor(point / 0x40000), continuation(0x1000), continuation(0x40), continuation(1))
end

-- Whether bytes are UTF-8: no overlong forms, no surrogates, nothing over U+10FFFF.
local function is_utf8(bytes)
    local at = 1
    while true do
        at = bytes:find("[\128-\255]", at)
        if not at then return true end
        local first, second = bytes:byte(at, at + 1)
        local len
        if first >= 0xc2 and first <= 0xdf then len = 2
        elseif first >= 0xe0 and first <= 0xef then len = 3
        elseif first >= 0xf0 and first <= 0xf4 then len = 4
        else return false end
        local least, most = 0x80, 0xbf
        if first == 0xe0 then least = 0xa0 elseif first == 0xed then most = 0x9f
        elseif first == 0xf0 then least = 0x90 elseif first == 0xf4 then most = 0x8f end
        if not second or second < least or second > most then return false end
        if not bytes:find("^" .. ("[\128-\191]"):rep(len - 1), at + 1) then return false end
        at = at + len
    end
end

-- Units of `size` bytes as numbers, or nothing where bytes are left over.
local function units(bytes, size, order)
    if #bytes % size ~= 0 then return nil end
    local list = {}
    for at = 1, #bytes, size do
        local value = 0
        for step = 0, size - 1 do
            value = value * 256 + bytes:byte(order == "big" and at + step or at + size - 1 - step)
        end
        list[#list + 1] = value
    end
    return list
end

local function utf16(bytes, order)
    local list = units(bytes, 2, order)
    if not list then return nil end
    local out, at = {}, 1
    while at <= #list do
        local unit = list[at]
        if unit >= 0xd800 and unit < 0xdc00 then
            local low = list[at + 1]
            if not low or low < 0xdc00 or low > 0xdfff then return nil end
            unit = 0x10000 + (unit - 0xd800) * 0x400 + low - 0xdc00
            at = at + 1
        elseif unit >= 0xdc00 and unit < 0xe000 then
            return nil
        end
        out[#out + 1] = encode(unit)
        at = at + 1
    end
    return table.concat(out)
end

local function utf32(bytes, order)
    local list = units(bytes, 4, order)
    if not list then return nil end
    for at, point in ipairs(list) do
        if point > 0x10ffff or (point >= 0xd800 and point < 0xe000) then return nil end
        list[at] = encode(point)
    end
    return table.concat(list)
end

-- The order and the rest, where a byte order mark says it; else what the header says.
local function marked(bytes, size, order)
    local little = size == 2 and "\255\254" or "\255\254\0\0"
    local big = size == 2 and "\254\255" or "\0\0\254\255"
    if bytes:sub(1, size) == little then return bytes:sub(size + 1), "little" end
    if bytes:sub(1, size) == big then return bytes:sub(size + 1), "big" end
    return bytes, order
end

-- Encodings that are known but not taken apart here.
local OPAQUE = { "^windows%-%d+$", "^cp125[0-8]$", "^iso%-8859%-%d+$", "^koi8%-[ru]$", "^shift_jis$",
    "^euc%-jp$", "^euc%-kr$", "^iso%-2022%-jp$", "^gbk$", "^gb18030$", "^big5$", "^macintosh$" }

-- The text as UTF-8, or nothing and the fault; both nothing where it cannot be told.
local function decode(bytes, encoding, order)
    local name = encoding:lower():gsub("_", "-")
    local text
    if name == "utf-8" or name == "utf8" then text = is_utf8(bytes) and bytes or nil
    elseif name == "ascii" or name == "us-ascii" then text = not bytes:find("[\128-\255]") and bytes or nil
    elseif name == "latin-1" or name == "iso-8859-1" then
        text = bytes:gsub("[\128-\255]", function(one) return encode(one:byte()) end)
    elseif name == "utf-16" then text = utf16(marked(bytes, 2, order))
    elseif name == "utf-16-le" then text = utf16(bytes, "little")
    elseif name == "utf-16-be" then text = utf16(bytes, "big")
    elseif name == "utf-32" then text = utf32(marked(bytes, 4, order))
    elseif name == "utf-32-le" then text = utf32(bytes, "little")
    elseif name == "utf-32-be" then text = utf32(bytes, "big")
    else
        for _, pattern in ipairs(OPAQUE) do
            if encoding:lower():find(pattern) then return nil, nil end
        end
        return nil, "UnknownEncoding"
    end
    if not text then return nil, "ContentNotText" end
    return text, nil
end

-- JSON ------------------------------------------------------------------------------------------

local MAX_DEPTH = 127
local PLAIN = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

-- A strict reader of UTF-8 text: no value but what RFC 8259 allows, no lone surrogate, no number
-- that a double cannot hold. Throws where the text is no JSON.
local function parse(text)
    local at = 1
    local value

    local function space() at = text:find("[^ \t\n\r]", at) or #text + 1 end
    local function take(pattern)
        local from, to, captured = text:find("^" .. pattern, at)
        if not from then error("not JSON") end
        at = to + 1
        return captured or text:sub(from, to)
    end
    local function unicode() return tonumber(take("u(%x%x%x%x)"), 16) end

    local function read_string()
        take('"')
        local out = {}
        while true do
            out[#out + 1] = text:match('^[^"\\\0-\31]*', at)
            at = at + #out[#out]
            local char = text:sub(at, at)
            if char == '"' then
                at = at + 1
                return table.concat(out)
            elseif char == "\\" then
                at = at + 1
                local escape = text:sub(at, at)
                if PLAIN[escape] then
                    out[#out + 1], at = PLAIN[escape], at + 1
                else
                    local point = unicode()
                    if point >= 0xdc00 and point < 0xe000 then error("lone surrogate") end
                    if point >= 0xd800 and point < 0xdc00 then
                        take("\\")
                        local low = unicode()
                        if low < 0xdc00 or low > 0xdfff then error("lone surrogate") end
                        point = 0x10000 + (point - 0xd800) * 0x400 + low - 0xdc00
                    end
                    out[#out + 1] = encode(point)
                end
            else
                error("not JSON")
            end
        end
    end

    local function read_number()
        local from = at
        take("%-?")
        take(text:find("^0", at) and "0" or "[1-9]%d*")
        if text:find("^%.", at) then take("%.%d+") end
        if text:find("^[eE]", at) then take("[eE][+-]?%d+") end
        local raw = text:sub(from, at - 1)
        local number = tonumber(raw)
        if not number or number == math.huge or number == -math.huge then error("out of range") end
        return { kind = "number", raw = raw }
    end

    local function read_members(depth)
        local members = {}
        take("{")
        space()
        if text:find("^}", at) then take("}") return { kind = "object", members = members } end
        repeat
            space()
            local key = read_string()
            space()
            take(":")
            space()
            local from = at
            local item = value(depth)
            members[#members + 1] = { key = key, value = item, raw = text:sub(from, at - 1) }
            space()
        until take("[,}]") == "}"
        return { kind = "object", members = members }
    end

    local function read_items(depth)
        take("%[")
        space()
        if text:find("^%]", at) then take("%]") return { kind = "array" } end
        repeat
            space()
            value(depth)
            space()
        until take("[,%]]") == "]"
        return { kind = "array" }
    end

    function value(depth)
        local char = text:sub(at, at)
        if char == "{" or char == "[" then
            if depth >= MAX_DEPTH then error("too deep") end
            return char == "{" and read_members(depth + 1) or read_items(depth + 1)
        elseif char == '"' then return { kind = "string", text = read_string() }
        elseif char:find("[%-%d]") then return read_number()
        end
        take(char == "t" and "true" or char == "f" and "false" or "null")
        return { kind = "word" }
    end

    space()
    local whole = value(0)
    space()
    if at <= #text then error("something behind it") end
    return whole
end

-- JSON-header messages ---------------------------------------------------------------------------

local REQUIRED = { "byteorder", "content-type", "content-encoding", "content-length" }
local MOST = "18446744073709551615"

-- The header's members and its four values, or nothing, the fault, and the key that it is about.
local function read_header(bytes)
    if not is_utf8(bytes) then return nil, "HeaderNotUtf8" end
    local fine, header = pcall(parse, bytes)
    if not fine then return nil, "HeaderNotJson" end
    if header.kind ~= "object" then return nil, "HeaderNotObject" end
    local found = {}
    for _, member in ipairs(header.members) do
        if found[member.key] then return nil, "DuplicateHeader", member.key end
        found[member.key] = member.value
    end
    for _, key in ipairs(REQUIRED) do
        if not found[key] then return nil, "MissingHeader", key end
    end
    local four = { members = header.members }
    for _, key in ipairs(REQUIRED) do
        local one = found[key]
        if key == "content-length" then
            local raw = one.kind == "number" and one.raw:match("^%d+$")
            if not raw or #raw > #MOST or (#raw == #MOST and raw > MOST) then return nil, "InvalidHeader", key end
            -- What 53 bits cannot hold is over every limit.
            four[key] = tonumber(raw)
        elseif one.kind ~= "string" or (key == "byteorder" and one.text ~= "little" and one.text ~= "big") then
            return nil, "InvalidHeader", key
        else
            four[key] = one.text
        end
    end
    if four["content-length"] > json_proto.prefs.max_content then return nil, "ContentTooLong" end
    return four
end

-- Directions of streams that cannot be followed any more, and since which frame. What that frame
-- has behind the malformed message comes in a call of its own, so it is remembered by its bytes:
-- frames are looked at again, in any order.
local broken, behind = {}, {}
local stream_number = Field.new("tcp.stream")

local function direction(pinfo)
    local stream = stream_number()
    return table.concat({ tostring(stream and stream.value), tostring(pinfo.src), pinfo.src_port }, " ")
end

local function forget() broken, behind = {}, {} end
json_proto.init, padded_proto.init = forget, forget

local function is_broken(tvb, pinfo)
    local since = broken[direction(pinfo)]
    if not since or pinfo.number < since then return false end
    if pinfo.number > since then return true end
    local bytes = tvb():raw()
    if not pinfo.visited then behind[pinfo.number .. bytes] = true end
    return behind[pinfo.number .. bytes] or false
end

local function break_stream(pinfo)
    local key = direction(pinfo)
    if not broken[key] then broken[key] = pinfo.number end
end

-- Asks for the rest of a message: `missing` more bytes behind what begins at `offset`.
local function wait(pinfo, offset, missing)
    pinfo.desegment_offset = offset
    pinfo.desegment_len = missing
end

local function short(text)
    text = text:gsub("%c", " ")
    if #text <= 60 then return text end
    local cut = text:sub(1, 60)
    while #cut > 0 and not is_utf8(cut) do cut = cut:sub(1, -2) end
    return cut .. "…"
end

local function mark(tree, range, expert_info, field, kind, key)
    local item = tree:add(field, range, kind)
    item:add_proto_expert_info(expert_info, key and (kind .. ": " .. key) or kind)
    if key then item:add(f.error_header, range, key):set_generated() end
    item:set_generated()
    return key and (kind .. " " .. key) or kind
end

-- One message that begins at `offset`: how many bytes it has and a line about it; no length where
-- the stream ends there; nothing at all where more must come first.
local function json_message(tvb, pinfo, tree, offset)
    local left = tvb:len() - offset
    if left < 2 then return wait(pinfo, offset, 2 - left) end
    local header_len = tvb(offset, 2):uint()
    local too_long = header_len > json_proto.prefs.max_header
    if not too_long and left < 2 + header_len then return wait(pinfo, offset, 2 + header_len - left) end
    local bytes = not too_long and header_len > 0 and tvb(offset + 2, header_len):raw() or ""
    local header, kind, key
    if too_long then kind = "HeaderTooLong" else header, kind, key = read_header(bytes) end
    if not header then
        local message = tree:add(json_proto, tvb(offset), "JSON-header message, malformed")
        message:add(f.header_length, tvb(offset, 2))
        if #bytes > 0 then message:add(f.header, tvb(offset + 2, header_len)) end
        return nil, mark(message, tvb(offset), malformed, f.error, kind, key)
    end
    local content_len = header["content-length"]
    local len = 2 + header_len + content_len
    if left < len then return wait(pinfo, offset, len - left) end

    local message = tree:add(json_proto, tvb(offset, len))
    message:append_text(string.format(", %s, %d bytes", header["content-type"], content_len))
    message:add(f.header_length, tvb(offset, 2))
    local range = tvb(offset + 2, header_len)
    local subtree = message:add(f.header, range)
    subtree:add(f.byteorder, range, header.byteorder)
    subtree:add(f.content_type, range, header["content-type"])
    subtree:add(f.content_encoding, range, header["content-encoding"])
    subtree:add(f.content_length, range, content_len)
    for _, member in ipairs(header.members) do
        if header[member.key] == nil or member.key == "members" then
            local extra = subtree:add(f.extra, range, member.key .. ": " .. member.raw)
            extra:add(f.extra_key, range, member.key)
            extra:add(f.extra_value, range, member.value.text or member.raw)
        end
    end

    local line = string.format("%s, %d bytes", header["content-type"], content_len)
    local content = content_len > 0 and tvb(offset + 2 + header_len, content_len)
    local raw = content and content:raw() or ""
    if content then message:add(f.content, content) end
    if header["content-type"] == "text/json" then
        local text, fault = decode(raw, header["content-encoding"], header.byteorder)
        if text and not pcall(parse, text) then fault = "ContentNotJson" end
        if text and content then message:add(f.text, content, text) end
        line = text and short(text) or line
        if fault then
            local about = fault == "UnknownEncoding" and "content-encoding" or nil
            line = mark(message, content or range, malformed, f.error, fault, about)
        end
    end
    return len, line
end

-- Follows one direction of a stream, message by message.
local function follow(proto, name, one_message, undecoded, tvb, pinfo, tree)
    if is_broken(tvb, pinfo) then
        tree:add(proto, tvb(), name .. ", behind a malformed message"):add(undecoded, tvb())
        pinfo.cols.protocol = proto.name
        return tvb:len()
    end
    local offset, lines = 0, {}
    while offset < tvb:len() do
        local len, line = one_message(tvb, pinfo, tree, offset)
        lines[#lines + 1] = line
        if not len then
            if line then break_stream(pinfo) end
            break
        end
        offset = offset + len
    end
    if #lines > 0 then
        pinfo.cols.protocol = proto.name
        pinfo.cols.info:set(table.concat(lines, " | "))
    end
    return tvb:len()
end

function json_proto.dissector(tvb, pinfo, tree)
    return follow(json_proto, "JSON-header message", json_message, f.undecoded, tvb, pinfo, tree)
end

-- Recognizes a stream by its beginning: a length that fits, and the JSON object with our keys.
json_proto:register_heuristic("tcp", function(tvb, pinfo, tree)
    if tvb:len() < 24 then return false end
    local header_len = tvb(0, 2):uint()
    if header_len < 24 or header_len > json_proto.prefs.max_header then return false end
    local start = tvb(2, math.min(header_len, tvb:len() - 2)):raw()
    if not start:find("^%s*{") then return false end
    if not (start:find('"content-', 1, true) or start:find('"byteorder"', 1, true)) then return false end
    pinfo.conversation = json_proto
    json_proto.dissector(tvb, pinfo, tree)
    return true
end)

-- Padded text -------------------------------------------------------------------------------------

local HEADER = 64
local RECEIVED = "Msg received"

local function padded_message(tvb, pinfo, tree, offset)
    local left = tvb:len() - offset
    if left < HEADER then return wait(pinfo, offset, HEADER - left) end
    local digits = tvb(offset, HEADER):raw():match("^(%d+) *$")
    if digits and #digits > 1 and digits:sub(1, 1) == "0" then digits = nil end
    local len = digits and tonumber(digits)
    local kind = not len and "LengthNotDecimal" or len > padded_proto.prefs.max_content and "TextTooLong"
    if not kind then
        if left < HEADER + len then return wait(pinfo, offset, HEADER + len - left) end
        if not is_utf8(len > 0 and tvb(offset + HEADER, len):raw() or "") then kind = "TextNotUtf8" end
    end
    if kind then
        local message = tree:add(padded_proto, tvb(offset), "Padded text message, malformed")
        message:add(p.length, tvb(offset, HEADER))
        return nil, mark(message, tvb(offset), padded_malformed, p.error, kind)
    end
    local message = tree:add(padded_proto, tvb(offset, HEADER + len))
    message:add(p.length, tvb(offset, HEADER), digits)
    local text = len > 0 and tvb(offset + HEADER, len):raw() or ""
    message:add(p.text, len > 0 and tvb(offset + HEADER, len) or tvb(offset, HEADER), text)
    message:append_text(", " .. short(text))
    return HEADER + len, short(text)
end

-- Replies have no header. Those that a segment joins can be told apart only if all are the usual.
local function replies(tvb, pinfo, tree)
    local text = tvb():raw()
    local each = text:gsub(RECEIVED, "") == "" and #RECEIVED or #text
    local lines = {}
    for offset = 0, #text - 1, each do
        local reply = tree:add(padded_proto, tvb(offset, each), "Reply to a padded text message")
        reply:add(p.reply, tvb(offset, each))
        lines[#lines + 1] = short(text:sub(offset + 1, offset + each))
    end
    pinfo.cols.protocol = padded_proto.name
    pinfo.cols.info:set(table.concat(lines, " | "))
    return tvb:len()
end

function padded_proto.dissector(tvb, pinfo, tree)
    if pinfo.src_port == pinfo.match_uint then return replies(tvb, pinfo, tree) end
    return follow(padded_proto, "Padded text message", padded_message, p.undecoded, tvb, pinfo, tree)
end

-- Ports -------------------------------------------------------------------------------------------

local tcp = DissectorTable.get("tcp.port")
local current = {}

local function listen_where_asked(proto)
    if current[proto.name] then tcp:remove(current[proto.name], proto) end
    current[proto.name] = proto.prefs.ports
    tcp:add(current[proto.name], proto)
end

for _, proto in ipairs({ json_proto, padded_proto }) do
    function proto.prefs_changed() listen_where_asked(proto) end
    listen_where_asked(proto)
end
