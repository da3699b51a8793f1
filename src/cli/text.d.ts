// Text that is built into the binary, for the type checker.
declare module "*.md" {
  const text: string;
  export default text;
}
