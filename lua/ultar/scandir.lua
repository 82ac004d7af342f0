--- Lists directories: `scandir.open(path):iter()`.

local host = require("ultar.host")

local ffi = require("ffi")
local api, native, fail = host.api, host.native, host.fail

local scan_out = ffi.new("ultar_scan *[1]")
local path_out = ffi.new("const char *[1]")
local size_out = ffi.new("size_t[1]")

---The paths that were in a directory when it was opened.
---@class ultar.Scan
---@field package paths string[]
local Scan = {}
Scan.__index = Scan

--- The paths, sorted by byte, so that every rank and every run has the same order. Each
--- call starts anew.
---
--- ```lua
--- for path in scandir.open(config.dir):iter() do
---   if path:sub(-4) == ".tar" then ... end
--- end
--- ```
---@return fun(): string? next_path
function Scan:iter()
  if getmetatable(self) ~= Scan then
    error("use scan:iter(), with a colon", 2)
  end
  local paths, place = self.paths, 0
  return function()
    place = place + 1
    return paths[place]
  end
end

---@class ultar.scandir
local scandir = {}

---@param scan ffi.cdata*
---@return string[] paths
local function read_paths(scan)
  local paths = {}
  while true do
    local status = api.scan_next(native, scan, path_out, size_out)
    if status == host.NO_MORE then
      return paths
    elseif status ~= host.DONE then
      -- Closed here and not by the collector, as a script may try again and again.
      api.scan_close(ffi.gc(scan, nil))
      fail(status, 3)
    end
    paths[#paths + 1] = ffi.string(path_out[0], size_out[0])
  end
end

--- List the files and directories that lie directly in a directory, as full paths: `path`,
--- a slash and the name. "." and ".." are left out; links are not followed. Of a folder in a
--- store, the URLs of objects and folders.
---
--- Raises when `path` is no string or cannot be listed.
---@param path string A path, or the URL of a folder in a store
---@return ultar.Scan
function scandir.open(path)
  if type(path) ~= "string" or path == "" or path:find("\0", 1, true) then
    host.bad_argument(1, "open", "path must be a string without NUL, and not empty", path, 2)
  end
  local status = api.scan_open(native, path, #path, scan_out)
  if status ~= 0 then
    fail(status, 2)
  end
  local scan = ffi.gc(scan_out[0], api.scan_close)
  local paths = read_paths(scan)
  api.scan_close(ffi.gc(scan, nil))
  table.sort(paths)
  return setmetatable({ paths = paths }, Scan)
end

return scandir
