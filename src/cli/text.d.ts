// Text that the build puts into the binary, for the type checker.
declare module "*.md" {
  const text: string;
  export default text;
}
